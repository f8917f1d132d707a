"""The date that a chat template writes: fixed for a tokenizer's life, so that a prompt stays one.

Llama 3, gpt-oss, Granite and SmolLM3 write today's date through `strftime_now`. A run that is
resumed the next day would train on other tokens, and a probe's curve would break at midnight.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_STRFTIME_NOW = "strftime_now"


@dataclass
class TemplateDate:
    """What a tokenizer's chat template is given as the present time."""

    fixed: datetime | None = None
    """None: the time of rendering, as `apply_chat_template` has it."""
    asked: bool = False
    """Whether the template has asked for it, so that it writes a date."""

    def strftime_now(self, format_: str) -> str:
        """Return the date as the template wants it; stands in for transformers' own function."""
        self.asked = True
        return (self.fixed or datetime.now()).strftime(format_)


_DATES: WeakKeyDictionary[PreTrainedTokenizerBase, TemplateDate] = WeakKeyDictionary()


def date_of(tokenizer: PreTrainedTokenizerBase) -> TemplateDate:
    """Return the date that a tokenizer's chat template is given."""
    return _DATES.setdefault(tokenizer, TemplateDate())


def fix_date(tokenizer: PreTrainedTokenizerBase, moment: datetime) -> None:
    """Give a tokenizer's chat template this date from now on, whenever it is rendered."""
    date_of(tokenizer).fixed = moment


@contextmanager
def date_in_template(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Let the tokenizer's chat template see its date for one rendering."""
    # The only place where transformers lets a function in: template arguments are turned to data.
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
    """Say that a chat template writes a date, and which; empty if none was written so far."""
    date = date_of(tokenizer)
    if not date.asked:
        return ""
    if date.fixed is None:
        return "the model's chat template writes today's date into every prompt; a run fixes it"
    return (
        "the model's chat template writes today's date into every prompt; it is fixed at "
        f"{date.fixed:%Y-%m-%d} for the run's life, whenever it is resumed"
    )
