"""A conversation as one text, cut where loss begins and ends, by the model's chat template.

Knows templates and where an assistant's turn stands in their text. Knows nothing of token ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sf_tui.errors import DataError, ModelError
from sf_tui.tasks.task import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Segment(NamedTuple):
    """A piece of text; `learnt` says whether its tokens carry loss."""

    text: str
    learnt: bool


@dataclass(frozen=True)
class Closing:
    """What a template writes after an assistant's text."""

    whole: str
    """All of it, when that turn is the last one."""
    end: str
    """The part up to and with the end-of-turn token; empty when the template has none."""


class RefusalError(ValueError):
    """Why a template can't be used for a conversation; whoever knows the place tells it."""


# No template has a reason to change it, and no data holds it.
_MARK = "QXZJ7ANSWER7JZXQ"


def plain_segments(messages: Sequence[Message]) -> list[Segment]:
    """Return the turns joined by newlines: what a model without a chat template reads."""
    segments: list[Segment] = []
    unlearnt = ""
    for message in messages:
        if message.role == "assistant":
            segments += [Segment(unlearnt, False), Segment(message.content, True)]
            unlearnt = "\n"
        else:
            unlearnt += message.content + "\n"
    return segments


def find_closing(tokenizer: PreTrainedTokenizerBase) -> Closing:
    """Find out what the chat template writes after an assistant's text.

    Raises:
        ModelError: if the template can't render one question and one answer.
    """
    try:
        text = render_turns(tokenizer, [Message("user", "Hello"), Message("assistant", _MARK)])
    except RefusalError as error:
        raise ModelError(
            f"the model's chat template can't render a question and its answer: {error}",
            "give prompt/completion rows, which are joined as they stand, or another tokenizer",
        ) from error
    before, mark, whole = text.rpartition(_MARK)
    if not mark or not before:
        raise ModelError(
            "the model's chat template leaves out the assistant's text",
            "give prompt/completion rows, which are joined as they stand, or another tokenizer",
        )
    # A template may close with two special tokens (end of turn, end of text): the first is what
    # the model must say, and what generation stops at.
    found = [
        (whole.index(token), -len(token), token)
        for token in _special_tokens(tokenizer)
        if token and token in whole
    ]
    if not found:
        return Closing(whole, "")
    start, _, token = min(found)
    return Closing(whole, whole[: start + len(token)])


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return {str(token) for token in added} | set(tokenizer.all_special_tokens)


def chat_segments(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, closing: Closing, place: str
) -> list[Segment]:
    """Render a conversation and cut it into what carries loss and what does not.

    Every assistant's turn carries loss, with its end-of-turn token; the text before it is exactly
    what the model is given when it is asked to answer there. What the template writes after the
    last end-of-turn token is dropped.

    Args:
        messages: the turns, the last an assistant's.
        tokenizer: has a chat template.
        closing: from `find_closing` for this tokenizer.
        place: where the row stands, for errors.

    Raises:
        DataError: if the template refuses the roles, or leaves out or changes a turn.
    """
    attempts = [messages]
    if any(message.role == "tool" for message in messages):
        # Many templates know no tools: what a tool answered is then told to the model as a user.
        attempts.append([Message("user", m.content) if m.role == "tool" else m for m in messages])
    problem = ""
    for attempt in attempts:
        try:
            return _cut(attempt, tokenizer, closing)
        except RefusalError as error:
            problem = problem or str(error)
    raise DataError(
        f"{place}: the model's chat template refuses this conversation: {problem}",
        'mend the row, leave such rows out with on_bad_row = "skip", or give prompt/completion '
        "rows, which are joined as they stand",
    )


def render_turns(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], generation: bool = False
) -> str:
    """Return some turns as the chat template writes them.

    Args:
        tokenizer: has a chat template.
        messages: the turns.
        generation: with what opens the assistant's next one.

    Raises:
        RefusalError: the template takes no such turns.
    """
    # Only conversations need it, and transformers has it loaded by then.
    import jinja2

    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return str(
            tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation)
        )
    except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
        # The template's own errors, and those of the operations in it.
        raise RefusalError(" ".join(str(error).split())) from error


def _cut(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, closing: Closing
) -> list[Segment]:
    """Cut the rendered text; raises RefusalError where it isn't what the turns say."""
    whole = render_turns(tokenizer, messages)
    segments: list[Segment] = []
    done = 0
    for index, message in enumerate(messages):
        if message.role != "assistant":
            if message.content.strip() not in whole:
                raise RefusalError(f"it leaves out or changes turn {index + 1} ({message.role})")
            continue
        prompt = render_turns(tokenizer, messages[:index], generation=True)
        if len(prompt) < done or not whole.startswith(prompt):
            raise RefusalError(
                f"the prompt of turn {index + 1} isn't how the whole conversation begins"
            )
        start = len(prompt)
        end = _content_end(messages, index, tokenizer, closing, whole, start)
        segments.append(Segment(whole[done:start], False))
        segments.append(Segment(whole[start : end + len(closing.end)], True))
        done = end + len(closing.end)
    return segments


def _content_end(
    messages: Sequence[Message],
    index: int,
    tokenizer: PreTrainedTokenizerBase,
    closing: Closing,
    whole: str,
    start: int,
) -> int:
    """Return where the text of assistant turn `index` ends in `whole`, before its closing."""
    content = messages[index].content
    for written in (content, content.strip(), content.rstrip(), content.lstrip()):
        end = start + len(written)
        if whole.startswith(written, start) and whole.startswith(closing.end, end):
            return end
    # The template writes something before the content, such as an empty block of thoughts.
    upto = render_turns(tokenizer, messages[: index + 1])
    text = upto.removesuffix(closing.whole)
    if (
        not upto.endswith(closing.whole)
        or not whole.startswith(text)
        or not whole.startswith(closing.end, len(text))
        or content.strip() not in text[start:]
    ):
        raise RefusalError(f"it leaves out or changes turn {index + 1} (assistant)")
    return len(text)
