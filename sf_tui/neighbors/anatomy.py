"""Which positions of a task's prompts belong to its slot, which to its frame, which to the format.

Where a task's prompts differ among themselves lies its *slot* (a name, a country); where they
agree lies its *frame* (the words of the question); what opens and closes every prompt whatever it
asks is the model's own *format* (chat template, answer mark). Works on token ids alone.
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

# A column of a mixed lot of prompts may still hold a word of the frame: one that a quarter of the
# prompts share ("of" behind a subject of one token, where other subjects have two).
_TEMPLATE_SHARE = 0.25

# Of what all prompts end with, so much passes for the answer mark; more of it is the question.
_LONGEST_MARK = 2


@dataclass(frozen=True)
class ChatFormat:
    """What opens and closes every prompt of a model, whatever it asks."""

    opening: Tokens
    closing: Tokens


@dataclass(frozen=True)
class AnatomizedPrompt:
    """One prompt and what each of its positions is."""

    tokens: Tokens
    slot: tuple[bool, ...]
    """(length,) whether a position belongs to the slot."""
    first: int
    """Where the text begins, behind the format's opening."""
    end: int
    """Where the text ends, before the format's closing."""

    @property
    def template(self) -> Tokens:
        """The text's tokens with -1 for each run of slot tokens."""
        return template_of(self.tokens, self.slot, self.first, self.end)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Runs of slot positions, each from its first position to behind its last."""
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
        """All slot tokens, from the first to the last with what stands between; may be empty."""
        spans = self.spans
        return self.tokens[spans[0][0] : spans[-1][1]] if spans else ()


@dataclass(frozen=True)
class Anatomy:
    """A task's prompts taken apart."""

    chat_format: ChatFormat
    prompts: tuple[AnatomizedPrompt, ...]

    @property
    def templates(self) -> frozenset[Tokens]:
        """The frames of the task's own prompts."""
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
    """Return what stands before the first answer token of each row, each prompt once, in order.

    A row that asks nothing has none: of a bare text only the first token carries no loss.
    """
    found: dict[Tokens, None] = {}
    for row in rows:
        start = next((at for at, label in enumerate(row.labels) if label != NO_LOSS), 0)
        found[tuple(row.input_ids[:start])] = None
    return [prompt for prompt in found if len(prompt) > 1]


def anatomize(prompts: Sequence[Tokens], tokenizer: PreTrainedTokenizerBase) -> Anatomy:
    """Tell slot, frame and format of a task's prompts apart.

    A column (positions counted from the text's first token, and again from its last, so that
    subjects of any length line up on both sides) belongs to the frame when it holds at most √n
    different tokens among n prompts; in any other column a token that a quarter of the prompts
    share belongs to it, too.

    Args:
        prompts: different prompts of one task.
        tokenizer: the model's; its chat template and special tokens tell the format.
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
        # A column that few prompts reach says nothing of the task.
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
    """Return what opens and closes all of some prompts.

    With a chat template that is what the template writes around a user's turn. Without one, or
    where the prompts are made otherwise, it is what they share before and behind special tokens;
    failing that, the opening token and at most two closing ones (the answer mark).
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
    # What opens a lone prompt stands in what it shares with itself at the end, too.
    most = shortest - len(head)
    closing = closing[max(len(closing) - most, 0) :]
    behind = next((at for at, token in enumerate(closing) if token in special), None)
    tail = closing[behind:] if behind is not None else closing[-_LONGEST_MARK:]
    # One prompt alone shares everything with itself: something must be left to ask.
    if len(head) + len(tail) >= shortest:
        tail = tail[len(tail) - max(shortest - len(head) - 1, 0) :]
    return ChatFormat(head, tail)


def _rendered_format(tokenizer: PreTrainedTokenizerBase) -> ChatFormat | None:
    if not getattr(tokenizer, "chat_template", None):
        return None
    # A word that no template writes and that tokenizers set apart by its line breaks.
    mark = "§"
    try:
        text = render_turns(tokenizer, [Message("user", mark)], generation=True)
    except RefusalError:
        # It takes no lone user's turn; the rows were made otherwise, and show what they share.
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
"""Rows that a sample is taken from: enough to tell slot and frame apart."""


@dataclass(frozen=True)
class PromptSample:
    """Some of a task's prompts, spread evenly over its train split."""

    prompts: list[Tokens]
    """Each once; none where the task's rows ask nothing."""
    longest_answer: int
    """In tokens, the end token included."""


def sample_prompts(source: EncodedSource) -> PromptSample:
    """Return prompts from up to 2,000 rows of a train split; a drawn one as its first epoch reads.

    Args:
        source: the train split.
    """
    rows = list(_rows(source, MOST_SAMPLED))
    longest = max((row.answer_tokens for row in rows), default=0)
    return PromptSample(prompts_of(rows), longest)


def every_prompt(source: EncodedSource) -> list[Tokens]:
    """Return all prompts of a train split, or the sampled ones where every epoch draws anew."""
    most = MOST_SAMPLED if source.lengths is None else len(source)
    return prompts_of(_rows(source, most))


def _rows(source: EncodedSource, most: int) -> Iterator[Encoded]:
    count = len(source)
    taken = min(count, most)
    for place in range(taken):
        yield source.encoded(place * count // taken, 0)
