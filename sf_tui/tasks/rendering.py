"""Turns as a chat template writes them, in bounded time, and every way in which it may fail.

Knows how thoughts are handed to a template. Knows nothing of tokens and of where loss begins.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from sf_tui.tasks.task import Message
from sf_tui.tasks.template_date import date_in_template
from sf_tui.tasks.thoughts import THOUGHT_KEYS, ThoughtMarks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ThoughtStyle = Literal["keys", "inline", "left out"]
"""How a template takes thoughts: under keys of their own, within the content, or not at all."""

# In seconds of processor time for one conversation; templates take milliseconds.
LONGEST_RENDERING = 5.0


class RefusalError(ValueError):
    """Why a template can't be used for a conversation; the caller adds the place."""


class _TooSlowError(Exception):
    """A template has rendered for longer than any sensible one does."""


def render_turns(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    generation: bool = False,
    style: ThoughtStyle = "left out",
    marks: ThoughtMarks | None = None,
    **options: Any,
) -> str:
    """Return some turns as the chat template writes them.

    Args:
        tokenizer: has a chat template.
        messages: the turns.
        generation: with what opens the assistant's next one.
        style: how the template takes thoughts.
        marks: what surrounds thoughts within a content; default: `<think>` and `</think>`.
        options: further arguments of the template, such as `enable_thinking`.

    Raises:
        RefusalError: the template takes no such turns, or never comes to an end.
    """
    # Only conversations need it, and transformers has it loaded by then.
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
        # The template's own errors, and those of the operations in it.
        raise RefusalError(_one_line(error)) from error
    except ArithmeticError as error:
        # OverflowError is how the sandbox answers an absurd range().
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
    """Raise _TooSlowError in what runs too long; only a main thread can be interrupted so."""
    # The virtual timer counts this process's own work alone and is nobody else's: SIGALRM belongs
    # to callers.
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
