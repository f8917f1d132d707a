"""The line of each key in a TOML text, including arrays of tables and inline tables.

A custom scanner, because tomli and tomlkit do not keep the lines of keys. Counting the lines of a
parsed tomlkit document fails when the parts of an array of tables are not adjacent ([[tasks]], then
[train], then [[tasks]]): tomlkit joins them. It also refuses nesting beyond 100 levels. The scanner
only gets texts that tomli has accepted, so it checks nothing.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

import tomli

KeyPath = tuple[str | int, ...]


@dataclass
class KeyLines:
    """Line numbers (from 1) of keys and table headers by their path."""

    lines: dict[KeyPath, int] = field(default_factory=dict)

    def known(self, path: KeyPath) -> tuple[KeyPath, int]:
        """Return the path and line of a key, or of the innermost located table around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return path[:length], self.lines[path[:length]]
        return (), 1

    def line(self, path: KeyPath) -> int:
        """Return the line of a key, or of the innermost located table around it."""
        return self.known(path)[1]

    def forget(self, path: KeyPath) -> None:
        """Remove a key and everything below it: its value no longer comes from the file."""
        for known in [known for known in self.lines if known[: len(path)] == path]:
            del self.lines[known]


def locate_keys(text: str) -> KeyLines:
    """Find the line of every key, table header and array element of a valid TOML text."""
    return _Scanner(text.replace("\r\n", "\n")).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.found = KeyLines()
        self.lengths: dict[KeyPath, int] = {}
        self.line_ends = [place for place, char in enumerate(text) if char == "\n"]

    def scan(self) -> KeyLines:
        table: KeyPath = ()
        while True:
            self.skip_space()
            if self.position >= len(self.text):
                return self.found
            if self.text[self.position] == "[":
                table = self.header()
            else:
                self.key_and_value(table)

    def peek(self, size: int = 1) -> str:
        return self.text[self.position : self.position + size]

    def line(self) -> int:
        return bisect.bisect_left(self.line_ends, self.position) + 1

    def skip_space(self) -> None:
        while self.position < len(self.text):
            char = self.text[self.position]
            if char == "#":
                self.skip_to("\n")
            elif char in " \t\n":
                self.position += 1
            else:
                return

    def skip_to(self, ends: str) -> None:
        while self.position < len(self.text) and self.text[self.position] not in ends:
            self.position += 1

    def header(self) -> KeyPath:
        line = self.line()
        array = self.peek(2) == "[["
        self.position += 2 if array else 1
        parts = self.key_parts()
        self.position += 2 if array else 1
        path: KeyPath = ()
        for part in parts[:-1]:
            path = self.last_element((*path, part))
            self.found.lines.setdefault(path, line)
        path = (*path, parts[-1])
        if not array:
            path = self.last_element(path)
            self.found.lines[path] = line
            return path
        self.found.lines.setdefault(path, line)
        place = self.lengths.get(path, 0)
        self.lengths[path] = place + 1
        self.found.lines[(*path, place)] = line
        return (*path, place)

    def last_element(self, path: KeyPath) -> KeyPath:
        """Extend the name of an array of tables by the index of its latest element."""
        return (*path, self.lengths[path] - 1) if path in self.lengths else path

    def key_and_value(self, table: KeyPath) -> None:
        line = self.line()
        path = table
        for part in self.key_parts():
            path = (*path, part)
            self.found.lines.setdefault(path, line)
        self.position += 1  # the equals sign
        self.value(path)

    def key_parts(self) -> list[str]:
        parts = []
        while True:
            self.skip_blanks()
            parts.append(self.key_part())
            self.skip_blanks()
            if self.peek() != ".":
                return parts
            self.position += 1

    def skip_blanks(self) -> None:
        while self.peek() in (" ", "\t"):
            self.position += 1

    def key_part(self) -> str:
        start = self.position
        if self.peek() in ('"', "'"):
            self.string()
            quoted = self.text[start : self.position]
            return str(tomli.loads(f"key = {quoted}")["key"])
        while (char := self.peek()) and (char.isalnum() or char in "-_"):
            self.position += 1
        return self.text[start : self.position]

    def string(self) -> None:
        quote = self.peek()
        if self.peek(3) == quote * 3:
            self.position += 3
            self.close_string(quote * 3)
            # Up to two quotes may precede the closing three.
            while self.peek() == quote:
                self.position += 1
        else:
            self.position += 1
            self.close_string(quote)

    def close_string(self, end: str) -> None:
        while self.peek(len(end)) != end:
            escaped = end[0] == '"' and self.peek() == "\\"
            self.position += 2 if escaped else 1
        self.position += len(end)

    def value(self, path: KeyPath) -> None:
        # Arrays and inline tables in one method, not two: one Python frame a level leaves room
        # for tomli's 400 levels of nesting.
        self.skip_space()
        opening = self.peek()
        if opening in ('"', "'"):
            self.string()
        elif opening not in ("[", "{"):
            self.skip_to(",]}#\n")
        else:
            self.position += 1
            closing = "]" if opening == "[" else "}"
            place = 0
            self.skip_space()
            while self.peek() != closing:
                inner = path
                line = self.line()
                if opening == "[":
                    inner = (*path, place)
                    self.found.lines[inner] = line
                else:
                    for part in self.key_parts():
                        inner = (*inner, part)
                        self.found.lines.setdefault(inner, line)
                    self.position += 1
                self.value(inner)
                place += 1
                self.skip_space()
                if self.peek() == ",":
                    self.position += 1
                    self.skip_space()
            self.position += 1
