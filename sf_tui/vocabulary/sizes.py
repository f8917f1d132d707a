"""How numbers of bytes and of things are written, everywhere."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def format_bytes(count: float | None) -> str:
    """Return a size in the nearest decimal unit; a dash for an unknown one."""
    if count is None:
        return "–"
    size, at = float(count), 0
    while size >= 999.5 and at < len(_UNITS) - 1:
        size, at = size / 1000, at + 1
    return f"{size:.0f} {_UNITS[at]}" if size >= 100 or at == 0 else f"{size:.1f} {_UNITS[at]}"


def counted(count: int | str, noun: str) -> str:
    """Return a number with its noun, in the plural for all but 1, +1 and −1.

    Args:
        count: the number, or its text where it has a form of its own, such as `1,200` or `no`.
        noun: its singular, whose plural ends in s.
    """
    one = str(count).lstrip("+-−") == "1"
    return f"{count} {noun}{'' if one else 's'}"
