"""The last guard before a terminal: stdout and stderr that pass on printable text only.

Commands make their texts printable themselves; this is for whatever else writes: warnings and logs
of libraries, tracebacks, the command line's own usage errors.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from sf_tui.printable import printable

# Colors: all that help and usage errors need, and all that is passed on.
_COLOR = re.compile(r"(\x1b\[[0-9;]*m)")
# What makes typer color its help where there is no terminal.
_FORCES_COLOR = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS")


class GuardedStream:
    """A text stream in front of another that makes every text printable on its way.

    Colors pass where the other is a terminal, or the environment asks for them without one.
    Everything but writing is the other stream's.

    Attributes:
        unguarded: the stream behind it, for a writer that filters more finely by itself.
    """

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        """Write a text and return its length, as if nothing had been replaced."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.unguarded.write(self._guarded(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts one after the other."""
        for line in lines:
            self.write(line)

    def _guarded(self, text: str) -> str:
        if "\x1b[" not in text or not self._takes_colors():
            return printable(text)
        pieces = _COLOR.split(text)
        pieces[::2] = map(printable, pieces[::2])
        return "".join(pieces)

    def _takes_colors(self) -> bool:
        return self.unguarded.isatty() or any(os.environ.get(name) for name in _FORCES_COLOR)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)

    def __iter__(self) -> Any:
        return iter(self.unguarded)


def guard_streams() -> None:
    """Put the guard before this process's stdout and stderr, once."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # A process without a stream has None; nothing can reach a terminal there.
        if stream is not None and not isinstance(stream, GuardedStream):
            setattr(sys, name, GuardedStream(stream))


def unguarded(stream: TextIO) -> TextIO:
    """Return the stream behind the guard, or the stream itself where there is no guard."""
    return stream.unguarded if isinstance(stream, GuardedStream) else stream
