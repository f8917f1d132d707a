"""What can go wrong, told to people: what happened, where, and what to do.

An error is raised where its cause is known and shown once, by the command line. It knows its
exit code; it knows nothing about terminals.
"""

from __future__ import annotations


class SfError(Exception):
    """A failure that a person can act on.

    Args:
        message: what happened and where (file:line, key, row), in one line.
        hint: what to do about it, in one line; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

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
