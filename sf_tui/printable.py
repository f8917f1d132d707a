"""Makes external text safe for a terminal: escapes control and deceptive characters.

Data, models, templates, logs, profiles and arguments can contain escape sequences that set the
title, write the clipboard or overwrite a line, and characters that reorder the displayed text. Each
such character is shown as its escape. Commands make their own texts printable; the guard on stdout
and stderr catches the warnings and log lines of libraries.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

# Two joiners (U+200C, U+200D) and the variation selectors are allowed: emoji and several scripts
# need them. Line breaks and tabs are handled separately.
_UNPRINTABLE = (
    "\\x00-\\x08\\x0b-\\x1f"  # C0
    "\\x7f-\\x9f"  # DEL and C1, the one-byte forms of CSI, OSC, DCS and others
    "\\xad"  # soft hyphen
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # text direction
    "\\u180e\\u200b\\u2060-\\u2065\\u206a-\\u206f\\ufeff\\ufff9-\\ufffb"  # invisible
    "\\u2028\\u2029"  # line and paragraph separator
    "\\ud800-\\udfff"  # lone surrogates: no terminal encoding has them
    "\\U000e0000-\\U000e007f"  # tag characters: an invisible alphabet
)
UNPRINTABLE = re.compile(f"[{_UNPRINTABLE}]")
"""One character that must not reach a terminal."""
_UNPRINTABLE_OR_BREAK = re.compile(f"[\\t\\n{_UNPRINTABLE}]")
_NAMED = {"\t": "\\t", "\n": "\\n"}


def cut(text: str, most: int) -> str:
    """Return a text of at most `most` characters; a longer one ends with an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def printable(text: str, *, multiline: bool = True) -> str:
    """Return a text with every character that could control a terminal as its visible escape.

    Args:
        text: any text, including lone surrogates.
        multiline: keep line feeds and tabs; otherwise they are escaped too, for single-line places.

    Returns:
        The same text if nothing needs escaping; otherwise one with `\\x1b`, `\\u202e` and the like.
    """
    return (UNPRINTABLE if multiline else _UNPRINTABLE_OR_BREAK).sub(_escape, text)


def printable_json(text: str) -> str:
    """Return a JSON text that parses to the same value and is safe for a terminal.

    Args:
        text: valid JSON; unsafe characters occur only inside strings.
    """
    return UNPRINTABLE.sub(_json_escape, text)


def printable_toml(text: str) -> str:
    """Return a TOML text that parses to the same value and is safe for a terminal.

    Args:
        text: valid TOML; unsafe characters occur only inside basic strings.
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


# Color sequences: help and usage errors need no others, and no others are passed.
_COLOR = re.compile(r"(\x1b\[[0-9;]*m)")
# Variables that make typer color its help without a terminal.
_FORCES_COLOR = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS")


class GuardedStream:
    """A text stream that wraps another and makes every text printable before writing it.

    Colors pass if the wrapped stream is a terminal or the environment forces them. All other
    operations go to the wrapped stream.

    Attributes:
        unguarded: the wrapped stream, for a writer with its own, finer filter.
    """

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        """Write a text; return its length before escaping."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.unguarded.write(self._guarded(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts in order."""
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
    """Wrap this process's stdout and stderr in guards, once."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # A process may have no stream (None); then nothing can reach a terminal.
        if stream is not None and not isinstance(stream, GuardedStream):
            setattr(sys, name, GuardedStream(stream))


def unguarded(stream: TextIO) -> TextIO:
    """Return the stream that a guard wraps, or the stream itself if it is not guarded."""
    return stream.unguarded if isinstance(stream, GuardedStream) else stream
