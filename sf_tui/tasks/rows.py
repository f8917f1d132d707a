"""Rows as they were read, rows that can't be used, and how messages name them.

Every row has its place. Knows nothing of file formats or schemas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sf_tui.errors import DataError

SHOWN_BAD_ROWS = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its fields by name, and its place (file:line, or file and row)."""

    place: str
    values: dict[str, Any]
    lines: int = 1
    """Number of lines in the file; more than one if a cell contains line breaks."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be used: its place and the reason."""

    place: str
    reason: str
    lines: int = 1
    """Number of lines lost with it: a broken record can span many."""

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class RowError(ValueError):
    """A fault in one row; a caller that knows its place makes it a `BadRow`.

    Args:
        reason: what is wrong.
        hint: what to do about it, if the usual advice does not help.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


def bad_rows_error(first: Sequence[BadRow], bad: int, rows: int, hint: str) -> DataError:
    """Build the error that names the first bad rows, how many there are, and the remedy.

    Args:
        first: at least one of the bad rows, in file order.
        bad: number of bad rows.
        rows: number of rows read, good and bad.
        hint: what to do about it.
    """
    shown = [str(row) for row in first[:SHOWN_BAD_ROWS]]
    if bad > len(shown):
        shown.append(f"and {bad - len(shown)} more")
    shown.append(f"{bad} of {count_rows(rows)} can't be used")
    return DataError("\n  ".join(shown), hint)


def count_rows(rows: int) -> str:
    """Return "1 row" or "7 rows"."""
    return "1 row" if rows == 1 else f"{rows} rows"


def kind_of(value: Any) -> str:
    """Return the JSON type of `value` in everyday words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return f"a number ({value})" if len(str(value)) <= 20 else "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    return type(value).__name__


SHOWN_FIELDS = 12
LONGEST_NAME = 60


def listed(names: Iterable[Any], most: int = SHOWN_FIELDS) -> str:
    """Return names for a message: the first `most`, shortened, and the number of others."""
    every = list(names)
    shown = ", ".join(short_name(name) for name in every[:most])
    return f"{shown} and {len(every) - most} more" if len(every) > most else shown


def short_name(name: Any) -> str:
    """Return a name for a message, cut beyond `LONGEST_NAME` characters."""
    text = str(name)
    if not text:
        return "(no name)"
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…"
