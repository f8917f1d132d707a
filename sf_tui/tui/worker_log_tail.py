"""The end of what a worker printed, read again only when there is more of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sf_tui.printable import printable
from sf_tui.run.regular_file import open_regular

_END_BYTES = 16_384
_LINES = 200
# Colors and cursor moves of libraries tell nothing; other control signs are shown.
_MOVES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class WorkerLogTail:
    """Follows one log file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = -1
        self.lines: list[str] = []

    def poll(self) -> bool:
        """Read the end anew if the file has grown; return whether it had."""
        try:
            with open_regular(self._path) as file:
                size = file.seek(0, os.SEEK_END)
                if size == self._size:
                    return False
                file.seek(max(size - _END_BYTES, 0))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return False
        self._size = size
        # A progress bar rewrites its line: only what it ended with is kept.
        lines = [
            line.rpartition("\r")[2] if "\r" in line.rstrip("\r") else line
            for line in text.split("\n")
        ]
        cleaned = [printable(_MOVES.sub("", line).rstrip()) for line in lines]
        self.lines = [line for line in cleaned if line][-_LINES:]
        return True
