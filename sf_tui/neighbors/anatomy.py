"""The parts of a task's prompts: slot, template and chat format.

Prompts of one task differ in their *slot* (a name, a country) and agree in their *template* (the
words of the question). The *chat format* opens and closes every prompt of a model (chat template,
answer mark). Also samples a task's prompts from its training rows. Works on token ids; runs no
model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sf_tui.engine.batches import EncodedSource
from sf_tui.tasks.encoding import NO_LOSS, Encoded
from sf_tui.tasks.task import Message
from sf_tui.tasks.template import RefusalError, render_turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Tokens = tuple[int, ...]

# A column with many different tokens can still contain a template word, shared by a quarter of the
# prompts ("of" after a one-token subject, where other subjects have two).
_TEMPLATE_SHARE = 0.25

# Longest answer mark, in tokens; shared tokens before it belong to the question.
_LONGEST_MARK = 2


@dataclass(frozen=True)
class ChatFormat:
    """Tokens that open and close every prompt of a model."""

    opening: Tokens
    closing: Tokens


@dataclass(frozen=True)
class AnatomizedPrompt:
    """One prompt and the part that each position belongs to."""

    tokens: Tokens
    slot: tuple[bool, ...]
    """(length,) whether a position belongs to the slot."""
    first: int
    """Start of the text, after the opening of the chat format."""
    end: int
    """End of the text, before the closing of the chat format."""

    @property
    def template(self) -> Tokens:
        """The text's tokens with -1 for each run of slot tokens."""
        return template_of(self.tokens, self.slot, self.first, self.end)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Runs of slot positions, each as its first position and the one after its last."""
        found: list[tuple[int, int]] = []
        for at in range(self.first, self.end):
            if not self.slot[at]:
                continue
            if found and found[-1][1] == at:
                found[-1] = (found[-1][0], at + 1)
            else:
                found.append((at, at + 1))
        return found

    @property
    def subject(self) -> Tokens:
        """Tokens from the first slot token to the last, including those between; may be empty."""
        spans = self.spans
        return self.tokens[spans[0][0] : spans[-1][1]] if spans else ()


@dataclass(frozen=True)
class Anatomy:
    """The prompts of a task and their parts."""

    chat_format: ChatFormat
    prompts: tuple[AnatomizedPrompt, ...]

    @property
    def templates(self) -> frozenset[Tokens]:
        """The templates of the task's own prompts."""
        return frozenset(prompt.template for prompt in self.prompts)


def template_of(tokens: Tokens, slot: Sequence[bool], first: int, end: int) -> Tokens:
    """Return a text's tokens with -1 for each run of slot tokens."""
    template: list[int] = []
    for at in range(first, end):
        if not slot[at]:
            template.append(tokens[at])
        elif not template or template[-1] != -1:
            template.append(-1)
    return tuple(template)


def prompts_of(rows: Iterable[Encoded]) -> list[Tokens]:
    """Return the tokens before the first answer token of each row, each prompt once, in order.

    Plain text has no prompt: only its first token carries no loss.
    """
    found = dict.fromkeys(prompt_of(row) for row in rows)
    return [prompt for prompt in found if len(prompt) > 1]


def prompt_of(row: Encoded) -> Tokens:
    """Return the tokens before a row's first answer token."""
    start = next((at for at, label in enumerate(row.labels) if label != NO_LOSS), 0)
    return tuple(row.input_ids[:start])


def anatomize(prompts: Sequence[Tokens], tokenizer: PreTrainedTokenizerBase) -> Anatomy:
    """Find slot, template and chat format of a task's prompts.

    Positions are counted from the first token of the text and again from its last, so that
    subjects of any length line up on both sides. A column belongs to the template if it holds at
    most √n different tokens among n prompts. In any other column, a token that a quarter of the
    prompts share belongs to it too.

    Args:
        prompts: different prompts of one task.
        tokenizer: the model's; the chat format follows from its chat template and special tokens.
    """
    chat_format = find_chat_format(prompts, tokenizer)
    first = len(chat_format.opening)
    texts = [prompt[first : len(prompt) - len(chat_format.closing)] for prompt in prompts]
    columns: dict[int, Counter[int]] = {}
    for text in texts:
        for at, token in enumerate(text):
            columns.setdefault(at, Counter())[token] += 1
            columns.setdefault(at - len(text), Counter())[token] += 1
    most = math.sqrt(len(prompts))

    def in_template(column: int, token: int) -> bool:
        counts = columns[column]
        total = counts.total()
        # Too few prompts reach this column.
        if total < _TEMPLATE_SHARE * len(prompts):
            return False
        return len(counts) <= most or counts[token] >= _TEMPLATE_SHARE * len(prompts)

    found = []
    for prompt, text in zip(prompts, texts, strict=True):
        slot = [False] * len(prompt)
        for at, token in enumerate(text):
            slot[first + at] = not (in_template(at, token) or in_template(at - len(text), token))
        found.append(AnatomizedPrompt(prompt, tuple(slot), first, first + len(text)))
    return Anatomy(chat_format, tuple(found))


def find_chat_format(prompts: Sequence[Tokens], tokenizer: PreTrainedTokenizerBase) -> ChatFormat:
    """Return the tokens that open and close all prompts.

    With a chat template these are what the template writes around a user's turn. Without one, or
    if the prompts were not made with it, they are what the prompts share up to the last leading
    special token and from the first trailing one. Without a trailing special token, at most the
    last two shared tokens (the answer mark) close a prompt.
    """
    if not prompts:
        return ChatFormat((), ())
    shortest = min(len(prompt) for prompt in prompts)
    opening, closing = _shared(prompts), _shared([prompt[::-1] for prompt in prompts])[::-1]
    template = _rendered_format(tokenizer)
    if (
        template is not None
        and opening[: len(template.opening)] == template.opening
        and closing[len(closing) - len(template.closing) :] == template.closing
        and len(template.opening) + len(template.closing) < shortest
    ):
        return template
    special = set(tokenizer.all_special_ids)
    last = max((at for at, token in enumerate(opening) if token in special), default=-1)
    head = opening[: last + 1]
    # A single prompt shares all of itself, so its opening must not count as closing too.
    most = shortest - len(head)
    closing = closing[max(len(closing) - most, 0) :]
    behind = next((at for at, token in enumerate(closing) if token in special), None)
    tail = closing[behind:] if behind is not None else closing[-_LONGEST_MARK:]
    # A single prompt shares all of itself: leave at least one token of text.
    if len(head) + len(tail) >= shortest:
        tail = tail[len(tail) - max(shortest - len(head) - 1, 0) :]
    return ChatFormat(head, tail)


def _rendered_format(tokenizer: PreTrainedTokenizerBase) -> ChatFormat | None:
    if not getattr(tokenizer, "chat_template", None):
        return None
    # A character that no template writes.
    mark = "§"
    try:
        text = render_turns(tokenizer, [Message("user", mark)], generation=True)
    except RefusalError:
        # The template refuses a lone user turn, so the rows were not made with it.
        return None
    before, found, after = text.partition(mark)
    if not found:
        return None
    return ChatFormat(
        tuple(tokenizer.encode(before, add_special_tokens=False)),
        tuple(tokenizer.encode(after, add_special_tokens=False)),
    )


def _shared(prompts: Sequence[Tokens]) -> Tokens:
    """Return the longest beginning that all prompts share."""
    low, high = min(prompts), max(prompts)
    for at, (one, other) in enumerate(zip(low, high, strict=False)):
        if one != other:
            return low[:at]
    return low[: min(len(low), len(high))]


MOST_SAMPLED = 2000
"""Most rows in a sample: enough to find slot and template."""


@dataclass(frozen=True)
class PromptSample:
    """Some of a task's prompts, spread evenly over its train split."""

    prompts: list[Tokens]
    """Each prompt once; empty if the rows are plain text."""
    longest_answer: int
    """In tokens, the end token included."""


def sample_prompts(source: EncodedSource) -> PromptSample:
    """Return prompts from up to 2,000 rows of a train split, as the first epoch reads them."""
    rows = list(_rows(source, MOST_SAMPLED))
    longest = max((row.answer_tokens for row in rows), default=0)
    return PromptSample(prompts_of(rows), longest)


def every_prompt(source: EncodedSource) -> list[Tokens]:
    """Return all prompts of a train split; only a sample if every epoch draws its rows."""
    most = MOST_SAMPLED if source.lengths is None else len(source)
    return prompts_of(_rows(source, most))


def _rows(source: EncodedSource, most: int) -> Iterator[Encoded]:
    count = len(source)
    taken = min(count, most)
    for place in range(taken):
        yield source.encoded(place * count // taken, 0)
