"""What can go wrong, told to people: what happened, where, and what to do.

An error is raised where its cause is known and shown once, by the command line. It knows its
exit code; it knows nothing about terminals.
"""

from __future__ import annotations

import re

from sf_tui.masking import mask_url_logins

_LONGEST_LINE = 2000
_LONGEST_WORD = 300
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")


def shorten(text: str) -> str:
    """Return a message in which no line is a wall of what it quotes.

    A line of up to 2,000 letters stays as it is; in a longer one the long words lose their middle,
    and the line itself if that is not enough.
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


class SfError(Exception):
    """A failure that a person can act on.

    Args:
        message: what happened and where (file:line, key, row), in one line.
        hint: what to do about it, in one line; may be empty.
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
    """A profile can't be read or makes no sense; the message opens with file:line and key."""

    exit_code = 2


class DataError(SfError):
    """A data file can't be used; the message opens with file:line (or file and row)."""

    exit_code = 2


class ModelError(SfError):
    """A model or tokenizer can't be loaded or can't do what the profile asks of it."""

    exit_code = 2


class RunNotFoundError(SfError):
    """No run goes by that name."""

    exit_code = 3


class RunError(SfError):
    """A run failed, or its directory can't be used."""

    exit_code = 1


class RunDamagedError(RunError):
    """A file of a run's directory is damaged; what else is there may still be read."""


class RunBusyError(RunError):
    """Another worker has the run; nothing of it was touched, and nothing failed."""

    exit_code = 2
