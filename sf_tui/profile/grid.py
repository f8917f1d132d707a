"""`--set table.key=VALUES` of a sweep: lists of values, and every combination of them.

`0..12` is each whole number from 0 to 12, both included; commas divide values. What a single value
means is decided by `override`, as for `sf run --set`. Knows no schema.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sf_tui.errors import ProfileError, UsageError
from sf_tui.profile.override import parse_override, split_override

MOST_POINTS = 1000
"""Most trials of a sweep; each is a whole training."""
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_CLOSING = {"[": "]", "{": "}"}


@dataclass(frozen=True)
class Grid:
    """The values that a sweep tries.

    Attributes:
        axes: the keys with several values, each with its values as they are written in `--set`.
        fixed: `table.key=value` of the keys with one value.
    """

    axes: Mapping[str, tuple[str, ...]]
    fixed: tuple[str, ...]

    def points(self) -> list[dict[str, str]]:
        """Return every combination, the last key changing fastest."""
        return [
            dict(zip(self.axes, values, strict=True))
            for values in itertools.product(*self.axes.values())
        ]

    def overrides(self, point: Mapping[str, str]) -> list[str]:
        """Return the `table.key=value` texts of one combination."""
        return [*self.fixed, *(f"{key}={value}" for key, value in point.items())]


def parse_grid(texts: Sequence[str]) -> Grid:
    """Return the grid that the `--set` options of a sweep describe.

    Raises:
        ProfileError: a key or value can't be read, or a key is given twice.
        UsageError: no key has several values, or there are too many combinations.
    """
    axes: dict[str, tuple[str, ...]] = {}
    fixed: list[str] = []
    seen: dict[tuple[str, ...], str] = {}
    for text in texts:
        key, equals, value = split_override(text)
        parts, _ = parse_override(f"{key}=0" if equals else text)
        if tuple(parts) in seen:
            raise ProfileError(
                f"--set {text}: {seen[tuple(parts)]} is given twice",
                "write all its values in one option, divided by commas",
            )
        seen[tuple(parts)] = key
        values = _values(key, value)
        if len(values) == 1:
            fixed.append(f"{key}={values[0]}")
        else:
            axes[key] = values
    if not axes:
        raise UsageError(
            "a sweep needs a key with several values",
            "for example --set train.freeze.layers=0..12 or --set train.learning_rate=1e-5,3e-5",
        )
    count = math.prod(map(len, axes.values()))
    if count > MOST_POINTS:
        raise UsageError(f"{count} trials; at most {MOST_POINTS}", "give fewer values")
    return Grid(axes, tuple(fixed))


def _values(key: str, text: str) -> tuple[str, ...]:
    found: list[str] = []
    for piece in _split(text):
        span = _RANGE.fullmatch(piece)
        if span is None:
            # Refuses a value that is empty or not valid TOML.
            parse_override(f"{key}={piece}")
            found.append(piece)
            continue
        first, last = int(span[1]), int(span[2])
        step = 1 if last >= first else -1
        if abs(last - first) >= MOST_POINTS:
            raise UsageError(f"--set {key}={text}: over {MOST_POINTS} values", "give fewer")
        found += map(str, range(first, last + step, step))
    doubled = next((value for value in found if found.count(value) > 1), None)
    if doubled is not None:
        raise ProfileError(f"--set {key}: {doubled} is given twice", "give each value once")
    return tuple(found)


def _split(text: str) -> list[str]:
    """Split at the commas outside quotes, arrays and tables."""
    pieces, quote, open_ = [""], "", []
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in _CLOSING:
            open_.append(_CLOSING[char])
        elif open_ and char == open_[-1]:
            open_.pop()
        elif char == "," and not open_:
            pieces.append("")
            continue
        pieces[-1] += char
    return [piece.strip() for piece in pieces]
