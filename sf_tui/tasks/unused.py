"""Which fields of rows and which keys of their turns nobody reads, and in how many rows.

Knows names. Knows nothing of what the fields mean or of files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson

from sf_tui.tasks.marks import TURN_MARKS, is_present
from sf_tui.tasks.rows import count_rows

TURN_KEYS = frozenset(
    {
        *("role", "content", "from", "value"),
        *("tool_calls", "function_call", "tool_call_id", "name"),
        *("reasoning_content", "reasoning", "thinking"),
        *TURN_MARKS,
    }
)
"""Keys of a turn that are read, or refused where they can't be."""

_CALL_KEYS = frozenset({"id", "type", "index", "function", "name", "arguments"})
_FUNCTION_KEYS = frozenset({"name", "arguments"})
_PART_KEYS = frozenset({"type", "text", "value"})

# Lists of objects that are read whole.
_NO_TURNS = frozenset({"tools", "functions", "history"})

SHOWN_FIELDS = 12
LONGEST_NAME = 60


def listed(names: Iterable[Any], most: int = SHOWN_FIELDS) -> str:
    """Return names for a message: the first `most`, each of bounded length, and a count."""
    every = list(names)
    shown = ", ".join(_short(name) for name in every[:most])
    return f"{shown} and {len(every) - most} more" if len(every) > most else shown


def _short(name: Any) -> str:
    text = str(name)
    if not text:
        return "(no name)"
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…"


class UnusedFields:
    """Counts the rows in which a field says something that nobody reads."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()

    def add(self, values: Mapping[str, Any], used: Collection[str]) -> None:
        """Count the fields of one row.

        Args:
            values: the row's fields.
            used: names of the fields that are read.
        """
        for key, value in values.items():
            if key in used:
                if key not in _NO_TURNS:
                    self._rows.update(_turn_keys(key, value))
            elif is_present(value):
                self._rows[str(key)] += 1

    def counts(self) -> tuple[tuple[str, int], ...]:
        """Return each unused field and the number of rows that have it, most frequent first."""
        return tuple(self._rows.most_common())

    def notes(self) -> list[str]:
        """Return a sentence that names the unused fields, or none."""
        counts = self.counts()
        if not counts:
            return []
        named = [f"{_short(name)} ({count_rows(rows)})" for name, rows in counts[:SHOWN_FIELDS]]
        more = f" and {len(counts) - SHOWN_FIELDS} more" if len(counts) > SHOWN_FIELDS else ""
        return [f"fields not used: {', '.join(named)}{more}"]


def _turn_keys(field: str, value: Any) -> set[str]:
    """Return the unused keys of a row's turns, as `messages[].key`."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:  # the cell of a table; a text that is no JSON has no keys
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return set()
    found: set[str] = set()
    if not isinstance(value, (list, tuple)):
        return found
    for turn in value:
        if turn.__class__ is dict and len(turn) == 2:
            # By far the most turns: a role and a text.
            if isinstance(turn.get("content"), str) and "role" in turn:
                continue
            if "from" in turn and "value" in turn:
                continue
        if not isinstance(turn, Mapping):
            continue
        unread = turn.keys() - TURN_KEYS
        if turn.get("from") is not None:
            # These two are then read in place of the usual ones.
            unread |= turn.keys() & {"role", "content"}
        else:
            unread |= turn.keys() & {"value"}
        found |= _present(turn, unread, f"{field}[]")
        if isinstance(content := turn.get("content"), (list, tuple)):
            for part in content:
                if isinstance(part, Mapping):
                    found |= _present(part, part.keys() - _PART_KEYS, f"{field}[].content[]")
        if isinstance(calls := turn.get("tool_calls"), (list, tuple)):
            for call in calls:
                found |= _call_keys(call, f"{field}[].tool_calls[]")
        if isinstance(call := turn.get("function_call"), Mapping):
            found |= _present(call, call.keys() - _FUNCTION_KEYS, f"{field}[].function_call")
    return found


def _call_keys(call: Any, name: str) -> set[str]:
    if not isinstance(call, Mapping):
        return set()
    found = _present(call, call.keys() - _CALL_KEYS, name)
    if isinstance(function := call.get("function"), Mapping):
        found |= _present(function, function.keys() - _FUNCTION_KEYS, f"{name}.function")
    return found


def _present(values: Mapping[str, Any], keys: Iterable[str], name: str) -> set[str]:
    return {f"{name}.{key}" for key in keys if is_present(values[key])}
