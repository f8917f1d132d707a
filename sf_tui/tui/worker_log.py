"""The end of the worker's log, read as it grows. Knows one file; knows nothing of widgets."""

from __future__ import annotations

import os
import re
from collections import deque
from pathlib import Path

from sf_tui.printable import printable
from sf_tui.run.durable import open_regular

END_BYTES = 1 << 18
"""Of a long log, this much of its end is read when the console opens."""
LINES_KEPT = 2000
# Colors and cursor moves from libraries carry no information; other controls are shown.
_MOVES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class WorkerLogTail:
    """Follows the end of one log file.

    Attributes:
        lines: the newest lines that are not blank, oldest first.
        dropped: lines before those that are no longer kept; with it a line keeps its number.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.dropped = 0
        self._start()

    def _start(self) -> None:
        self._size = 0
        self._kept: deque[str] = deque()
        # The last line as far as it was written, and whether it is among the kept ones.
        self._open = b""
        self._has_open = False

    @property
    def lines(self) -> list[str]:
        """The lines kept, as a list of their own."""
        return list(self._kept)

    def poll(self) -> bool:
        """Read what was appended; return whether there was anything."""
        try:
            with open_regular(self._path) as file:
                size = file.seek(0, os.SEEK_END)
                if size == self._size:
                    return False
                if size < self._size:
                    # Somebody has cut it.
                    self._start()
                file.seek(max(self._size, size - END_BYTES))
                text = self._open + file.read(size - file.tell())
        except OSError:
            return False
        self._size = size
        whole, newline, rest = text.rpartition(b"\n")
        self._open = _last_version(rest)
        if self._has_open:
            self._kept.pop()
        for line in whole.split(b"\n") if newline else ():
            self._add(line)
        self._has_open = self._add(self._open)
        while len(self._kept) > LINES_KEPT:
            self._kept.popleft()
            self.dropped += 1
        return True

    def _add(self, raw: bytes) -> bool:
        """Keep a line unless it is blank; return whether it was kept."""
        text = _last_version(raw).decode("utf-8", "replace")
        line = printable(_MOVES.sub("", text).rstrip())
        if line:
            self._kept.append(line)
        return bool(line)


def line_contains(line: str, wanted: str) -> bool:
    """Return whether a line contains a text, in any case."""
    return wanted.casefold() in line.casefold()


def _last_version(line: bytes) -> bytes:
    """Return what a line shows that a progress bar has rewritten any number of times."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]
