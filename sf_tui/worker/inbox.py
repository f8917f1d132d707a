"""The commands that a worker has read from the command log and not yet answered, in order.

They outlast a stage. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sf_tui.run.commands import CommandTail
from sf_tui.vocabulary.commands import Command


class CommandInbox:
    """Follows a command log.

    Args:
        path: the command log.
        own_from: position in it, in bytes, up to which commands were sent before this worker began.
    """

    def __init__(self, path: Path, own_from: int = 0) -> None:
        self._tail = CommandTail(path)
        self._own_from = own_from
        self._waiting: list[Command] = []

    def read_earlier(self) -> list[Command]:
        """Return the commands from before this worker; call it once, before `waiting`."""
        earlier: list[Command] = []
        for line in self._tail.iterate():
            is_own = self._tail.offset > self._own_from
            (self._waiting if is_own else earlier).append(Command.from_line(line))
        return earlier

    def keep(self, earlier: list[Command]) -> None:
        """Let commands from before this worker wait, ahead of its own."""
        self._waiting[:0] = earlier

    def waiting(self, is_answered: Callable[[Command], bool]) -> list[Command]:
        """Read on, and return the commands that wait, oldest first.

        Args:
            is_answered: returns whether a command no longer waits; it is then dropped.

        Raises:
            OSError: the file can't be read, or is no regular file.
        """
        self._waiting += [Command.from_line(line) for line in self._tail.iterate()]
        if self._waiting:
            self._waiting = [one for one in self._waiting if not is_answered(one)]
        return list(self._waiting)
