"""What a model's chat template writes: rendered turns, the end of an answer, thoughts, the date.

Rendering takes bounded time, and every failure of a template becomes a `RefusalError`. The date is
fixed for a tokenizer: Llama 3, gpt-oss, Granite and SmolLM3 write today's date through
`strftime_now`, so a run that resumes the next day would train on other tokens, and a probe's curve
would break at midnight. Knows nothing of token ids or of loss.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from sf_tui.errors import ModelError
from sf_tui.tasks.messages import THOUGHT_KEYS, ThoughtMarks
from sf_tui.tasks.task import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


ThoughtStyle = Literal["keys", "inline", "left out"]
"""How a template takes thoughts: in separate keys, within the content, or not at all."""

# Processor seconds allowed for one conversation; templates take milliseconds.
LONGEST_RENDERING = 5.0


class RefusalError(ValueError):
    """The chat template can't render a conversation; the caller adds the place."""


class _TooSlowError(Exception):
    """Rendering took longer than `LONGEST_RENDERING`."""


def render_turns(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    generation: bool = False,
    style: ThoughtStyle = "left out",
    marks: ThoughtMarks | None = None,
    **options: Any,
) -> str:
    """Render turns with the chat template.

    Args:
        tokenizer: has a chat template.
        messages: the turns.
        generation: add the opening of the assistant's next turn.
        style: how the template takes thoughts.
        marks: the marks around thoughts within a content; default: `<think>` and `</think>`.
        options: further arguments of the template, such as `enable_thinking`.

    Raises:
        RefusalError: the template refuses the turns, fails, or takes too long.
    """
    # Deferred: only conversations need it, and transformers has loaded it by then.
    import jinja2

    turns = [_as_turn(message, style, marks or ThoughtMarks()) for message in messages]
    try:
        with date_in_template(tokenizer), _limited_time():
            return str(
                tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=generation, **options
                )
            )
    except _TooSlowError as error:
        raise RefusalError(
            f"it has rendered for {LONGEST_RENDERING:.0f} seconds without coming to an end"
        ) from error
    except (MemoryError, RecursionError) as error:
        raise RefusalError(
            f"it needs more memory than there is ({type(error).__name__})"
        ) from error
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        # Raised by the template itself, or by its operations.
        raise RefusalError(_one_line(error)) from error
    except ArithmeticError as error:
        # The sandbox raises OverflowError for an absurd range().
        raise RefusalError(_one_line(error)) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _as_turn(message: Message, style: ThoughtStyle, marks: ThoughtMarks) -> dict[str, Any]:
    turn = {"role": message.role, "content": message.content}
    if not message.thoughts:
        return turn
    if style == "keys":
        return turn | dict.fromkeys(THOUGHT_KEYS, message.thoughts)
    if marks.closing in message.inline:
        turn["content"] = message.inline
    elif style == "inline":
        turn["content"] = marks.around(message.thoughts, message.content)
    return turn


@contextmanager
def _limited_time() -> Iterator[None]:
    """Raise _TooSlowError in the block after too long; works in the main thread only."""
    # The virtual timer counts this process's processor time. SIGALRM is left to callers.
    timer = getattr(signal, "ITIMER_VIRTUAL", None)
    if timer is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(_signal: int, _frame: object) -> None:
        raise _TooSlowError

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(timer, LONGEST_RENDERING)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL if before is None else before)


@dataclass(frozen=True)
class Closing:
    """The text that a template writes after an assistant's answer."""

    whole: str
    """All of it, if that turn is the last one."""
    end: str
    """Up to and including the end-of-turn token; empty if the template writes none."""


# No template changes this text, and no data contains it.
ANSWER_STAND_IN = "QXZJ7ANSWER7JZXQ"


# Added tokens that are not special only end a turn if they look like control tokens: vocabularies
# also add "\n\n" and ordinary words.
_CONTROL_SHAPE = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")

_PROMPT_COMPLETION = (
    "give prompt/completion rows, which are joined as they are, or another tokenizer"
)


def find_closing(tokenizer: PreTrainedTokenizerBase) -> Closing:
    """Find what the chat template writes after an assistant's text.

    Raises:
        ModelError: the template can't render one question and one answer.
    """
    try:
        text = render_turns(
            tokenizer, [Message("user", "Hello"), Message("assistant", ANSWER_STAND_IN)]
        )
    except RefusalError as error:
        raise ModelError(
            f"the model's chat template can't render a question and its answer: {error}",
            _PROMPT_COMPLETION,
        ) from error
    before, mark, whole = text.rpartition(ANSWER_STAND_IN)
    if not mark or not before:
        raise ModelError(
            "the model's chat template leaves out the assistant's text", _PROMPT_COMPLETION
        )
    return closing_of(whole, tokenizer, between_turns(tokenizer))


def between_turns(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what the template writes after an answer that another turn follows."""
    turns = [
        Message("user", "Hello"),
        Message("assistant", ANSWER_STAND_IN),
        Message("user", "Hello"),
    ]
    try:
        return render_turns(tokenizer, turns).rpartition(ANSWER_STAND_IN)[2]
    except RefusalError:
        # The template accepts only one answer, so it writes nothing between turns.
        return ""


def closing_of(whole: str, tokenizer: PreTrainedTokenizerBase, between: str) -> Closing:
    """Split the closing of an answer after the template's first end token.

    A template may close with two end tokens (end of turn, end of text). The model must write the
    first, and generation stops there. If the tokenizer's own end token closes every turn and not
    just the last, the model must write everything up to it: Cohere's templates close the response,
    then the turn. An end token is special and not blank.
    """
    eos = str(tokenizer.eos_token or "")
    if eos.strip() and eos in whole:
        closing = whole[: whole.index(eos) + len(eos)]
        if between.startswith(closing):
            return Closing(whole, closing)
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = {token.content for token in added if token.special} | set(
        tokenizer.all_special_tokens
    )
    shaped = {token.content for token in added if _CONTROL_SHAPE.fullmatch(token.content)}
    for tokens in (special, shaped):
        found = [
            (whole.index(token), -len(token), token)
            for token in tokens
            if token.strip() and token in whole
        ]
        if found:
            start, _, token = min(found)
            return Closing(whole, whole[: start + len(token)])
    return Closing(whole, "")


# A mark is a tag or a token in brackets: <think>, [THINK], <|begin_of_thought|>, ◁think▷.
_MARK = r"<[^<>\s]{1,60}>|\[[^\[\]\s]{1,60}\]|◁[^◁▷\s]{1,60}▷|【[^【】\s]{1,60}】"
_OPENED = re.compile(rf"({_MARK})(\s*)\Z")
_ABOUT_THINKING = re.compile(
    r"think|thought|reason|reflect|ponder|deliberat|scratch|monolog|\bcot\b|analysis", re.I
)
# Words in an opening mark, each with the word in its closing mark.
_PAIRS = (("begin", "end"), ("start", "end"), ("open", "close"), ("bot", "eot"), ("bo", "eo"))


@dataclass(frozen=True)
class OpenedThoughts:
    """A prompt that ends with an opening mark for thoughts that the model has to write."""

    before: str
    """The prompt up to the opening mark."""
    marks: ThoughtMarks
    space: str
    """The whitespace after the opening mark."""


def opened_thoughts(prompt: str, template: str) -> OpenedThoughts | None:
    """Return the opening mark that a prompt ends with, if it ends with one.

    Args:
        prompt: the prompt that the template writes for generation.
        template: its source, which may contain the closing mark.
    """
    found = _OPENED.search(prompt)
    if found is None:
        return None
    mark, space = found.groups()
    for closing in _counterparts(mark):
        if closing in template or _ABOUT_THINKING.search(mark):
            return OpenedThoughts(prompt[: found.start()], ThoughtMarks(mark, closing), space)
    return None


def closed_thoughts(prompt: str) -> str | None:
    """Return a prompt without the closed block of thoughts at its end; None if there is none."""
    found = _OPENED.search(prompt)
    if found is None or not _ABOUT_THINKING.search(found[1]):
        return None
    before = prompt[: found.start()]
    opened = _OPENED.search(before)
    if opened is not None and found[1] in _counterparts(opened[1]):
        return before[: opened.start()]
    # DeepSeek-V3.1 closes thoughts that were not opened.
    return before if _is_closing(found[1]) else None


def find_marks(template: str) -> ThoughtMarks | None:
    """Return the pair of thought marks in a template's source; None if there is none."""
    marks = list(dict.fromkeys(re.findall(_MARK, template)))
    about = [mark for mark in marks if _ABOUT_THINKING.search(mark)]
    for mark in about:
        for closing in _counterparts(mark):
            if closing in about:
                return ThoughtMarks(mark, closing)
    for mark in about:
        # A template that only removes thoughts contains just their closing mark.
        if mark[1] == "/":
            return ThoughtMarks(mark[0] + mark[2:], mark)
    return None


def is_thought_mark(token: str) -> bool:
    """Return whether a token opens or closes thoughts, by its text."""
    return re.fullmatch(_MARK, token) is not None and bool(_ABOUT_THINKING.search(token))


def _is_closing(mark: str) -> bool:
    return "/" in mark or re.search(r"end|close|eot", mark, re.I) is not None


def _counterparts(mark: str) -> list[str]:
    """Return possible closing marks for an opening one, the likeliest first."""
    if "/" in mark[:3]:
        return []
    inner = re.search(r"\w", mark)
    if inner is None:
        return []
    found = []
    for opening, closing in _PAIRS:
        match = re.search(rf"(?<![a-z]){opening}(?![a-z])", mark, re.I)
        if match is not None:
            word = closing.upper() if match[0].isupper() else closing
            word = closing.capitalize() if match[0].istitle() else word
            found.append(mark[: match.start()] + word + mark[match.end() :])
    slashed = mark[0] + "/" + mark[1:]
    within = mark[: inner.start()] + "/" + mark[inner.start() :]
    return [*found, slashed, *([within] if within != slashed else [])]


_STRFTIME_NOW = "strftime_now"


@dataclass
class TemplateDate:
    """The current time for a tokenizer's chat template."""

    fixed: datetime | None = None
    """None: the time of rendering, as in `apply_chat_template`."""
    asked: bool = False
    """Whether the template has called `strftime_now` and so writes a date."""

    def strftime_now(self, format_: str) -> str:
        """Format the date; replaces transformers' own function."""
        self.asked = True
        return (self.fixed or datetime.now()).strftime(format_)


_DATES: WeakKeyDictionary[PreTrainedTokenizerBase, TemplateDate] = WeakKeyDictionary()


def date_of(tokenizer: PreTrainedTokenizerBase) -> TemplateDate:
    """Return the date of a tokenizer's chat template."""
    return _DATES.setdefault(tokenizer, TemplateDate())


def fix_date(tokenizer: PreTrainedTokenizerBase, moment: datetime) -> None:
    """Set the date that a tokenizer's chat template writes from now on."""
    date_of(tokenizer).fixed = moment


@contextmanager
def date_in_template(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Pass the tokenizer's date to its chat template for one rendering."""
    # transformers accepts a function only here: it copies template arguments as data.
    from transformers.utils.chat_template_utils import _compile_jinja_template

    compiled: Any = _compile_jinja_template(tokenizer.get_chat_template())  # type: ignore[no-untyped-call]
    names = compiled.environment.globals
    before = names.get(_STRFTIME_NOW)
    names[_STRFTIME_NOW] = date_of(tokenizer).strftime_now
    try:
        yield
    finally:
        names[_STRFTIME_NOW] = before


def date_note(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a note on the date that a chat template writes; empty if it has written none."""
    date = date_of(tokenizer)
    if not date.asked:
        return ""
    if date.fixed is None:
        return "the model's chat template writes today's date into every prompt; a run fixes it"
    return (
        "the model's chat template writes today's date into every prompt; it is fixed at "
        f"{date.fixed:%Y-%m-%d} for the run's life, whenever it is resumed"
    )
