"""Text from outside as a terminal may get it: what would steer it or deceive its reader, spelled.

Data, models, templates, logs, profiles and arguments may hold escape sequences that set a title,
write the clipboard or overpaint a line, and marks that reorder what is read. Each such character
is shown as its escape. Commands make their texts printable themselves; the guard on stdout and
stderr is for warnings and logs of libraries.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

# Two joiners (U+200C, U+200D) and the variation selectors stay: emoji and several scripts are
# written with them. Line breaks and tabs are treated apart.
_UNPRINTABLE = (
    "\\x00-\\x08\\x0b-\\x1f"  # C0
    "\\x7f-\\x9f"  # DEL and C1, the one-byte forms of CSI, OSC, DCS and others
    "\\xad"  # soft hyphen
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # direction of writing
    "\\u180e\\u200b\\u2060-\\u2065\\u206a-\\u206f\\ufeff\\ufff9-\\ufffb"  # invisible
    "\\u2028\\u2029"  # line and paragraph separator
    "\\ud800-\\udfff"  # half a pair: no encoding of a terminal has it
    "\\U000e0000-\\U000e007f"  # tags: a whole alphabet that is not seen
)
UNPRINTABLE = re.compile(f"[{_UNPRINTABLE}]")
"""One character that no terminal may get."""
_UNPRINTABLE_OR_BREAK = re.compile(f"[\\t\\n{_UNPRINTABLE}]")
_NAMED = {"\t": "\\t", "\n": "\\n"}


def printable(text: str, *, multiline: bool = True) -> str:
    """Return a text with every character that would steer a terminal as its visible escape.

    Args:
        text: any text, also with lone surrogates.
        multiline: leave line feeds and tabs as they are; otherwise they are escaped, too, for
            places that have one line.

    Returns:
        The text itself where nothing is to be escaped; else with `\\x1b`, `\\u202e` and the like.
    """
    return (UNPRINTABLE if multiline else _UNPRINTABLE_OR_BREAK).sub(_escape, text)


def printable_json(text: str) -> str:
    """Return a JSON text that parses to the same value and steers no terminal.

    Args:
        text: valid JSON, where the characters in question stand in strings only.
    """
    return UNPRINTABLE.sub(_json_escape, text)


def printable_toml(text: str) -> str:
    """Return a TOML text that parses to the same value and steers no terminal.

    Args:
        text: valid TOML, where the characters in question stand in basic strings only.
    """
    return UNPRINTABLE.sub(_toml_escape, text)


def _escape(found: re.Match[str]) -> str:
    sign = found[0]
    return _NAMED.get(sign) or (f"\\x{ord(sign):02x}" if ord(sign) < 256 else _toml_escape(found))


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _toml_escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


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
