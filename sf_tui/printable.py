"""Text from outside as a terminal may get it: what would steer it or deceive its reader, spelled.

Data, models, templates, logs, profiles and arguments may hold escape sequences that set a title,
write the clipboard or overpaint a line, and marks that reorder what is read. Each such character
is shown as its escape. Knows characters only; knows nothing of where they came from.
"""

from __future__ import annotations

import re

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
