"""Errors that a person can act on: what happened, where, and what to do.

Errors are raised where the cause is known and shown once, by the command line. Each has an exit
code. Also finds the known name nearest to a mistyped one, for hints. Knows nothing about terminals.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from sf_tui.masking import mask_url_logins

_LONGEST_LINE = 2000
_LONGEST_WORD = 300
# difflib's default: it matches "step" to "steps" and "lerning_rate" to "learning_rate", but not two
# words that merely have the same length.
_NEAR_ENOUGH = 0.6
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")


def shorten(text: str) -> str:
    """Return a message whose lines are short enough to read.

    A line of up to 2,000 characters is kept. In a longer one the middle of each long word is cut,
    then the middle of the line if that is not enough.
    """
    if len(text) <= _LONGEST_LINE:
        return text
    return "\n".join(
        line
        if len(line) <= _LONGEST_LINE
        else _cut(_LONG_WORD.sub(lambda word: _cut(word[0], _LONGEST_WORD), line), _LONGEST_LINE)
        for line in text.split("\n")
    )


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    tail = most // 5
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def nearest_name(word: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to a word, or None when none is close."""
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), names, n=1, cutoff=_NEAR_ENOUGH)
    return names[found[0]] if found else None


def nearest_names(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to `count` known names close to a word, the closest first."""
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), names, n=count, cutoff=_NEAR_ENOUGH)
    return [names[name] for name in found]


def did_you_mean(word: str, known: Iterable[str], kind: str = "") -> str:
    """Return a hint: the nearest known name, or all of them when none is close.

    Args:
        word: the name that was given.
        known: the names that exist.
        kind: plural noun for the names ("keys", "ops"); introduces the full list.
    """
    names = list(known)
    near = nearest_name(word, names)
    if near is not None:
        return f"did you mean '{near}'?"
    if not names:
        return f"there are no {kind}" if kind else ""
    return f"{kind or 'known'}: {', '.join(names)}"


class SfError(Exception):
    """A failure that a person can act on.

    Args:
        message: one line: what happened and where (file:line, key, row).
        hint: one line: what to do about it; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        message = shorten(mask_url_logins(message))
        super().__init__(message)
        self.message = message
        self.hint = shorten(mask_url_logins(hint))

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(SfError):
    """The command line asks for something that can't be done."""

    exit_code = 2


class ProfileError(SfError):
    """A profile can't be read or is invalid; the message begins with file:line and key."""

    exit_code = 2


class DataError(SfError):
    """A data file can't be used; the message begins with file:line (or file and row)."""

    exit_code = 2


class ModelError(SfError):
    """A model or tokenizer can't be loaded or can't do what the profile asks of it."""

    exit_code = 2


class RunNotFoundError(SfError):
    """No run has that name."""

    exit_code = 3


class RunError(SfError):
    """A run failed, or its directory can't be used."""

    exit_code = 1


class RunDamagedError(RunError):
    """A file in a run's directory is damaged; the others may still be readable."""


class RunBusyError(RunError):
    """Another worker holds the run; nothing was changed and nothing failed."""

    exit_code = 2
