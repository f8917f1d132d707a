"""The rows' fields that are read: a profile's `fields` table, and the fields that nothing reads.

Also suggests a table for rows that fit no schema. Knows nothing of files or tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sf_tui.errors import DataError, nearest_name
from sf_tui.tasks.marks import TURN_MARKS, is_present
from sf_tui.tasks.schemas import (
    CONTEXTS_OF_QUESTIONS,
    KNOWN_SCHEMAS,
    SCHEMAS,
    Schema,
    recognize,
    row_example,
    used_fields,
)
from sf_tui.tasks.task import (
    SHOWN_FIELDS,
    Example,
    Row,
    RowError,
    count_rows,
    kind_of,
    listed,
    short_name,
)

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class FieldMap:
    """A profile's `fields` table: the source of each field of a known schema.

    A value is a field name, a text with field names in braces (`"Capital of {subject}:"`), or empty
    for an empty text.
    """

    schema: Schema
    table: Mapping[str, str]

    def names(self) -> dict[str, str]:
        """Return the row fields that the table uses, each with its key."""
        used: dict[str, str] = {}
        for key, value in self.table.items():
            for name in _PLACEHOLDER.findall(value) or ([value] if value else []):
                used.setdefault(name, key)
        return used

    def example(self, row: Row, group: str = "") -> Example:
        """Make an example from a row.

        Raises:
            RowError: a field that the table names is missing, empty or of the wrong type.
        """
        for name, key in self.names().items():
            if name not in row.values:
                raise RowError(
                    f"has no field '{name}', which fields.{key} names{near(name, row.values)}"
                )
        values = {key: self._value(key, value, row) for key, value in self.table.items()}
        for key in self.table.keys() - used_fields(self.schema, values):
            raise RowError(f"fields.{key}: a prompt that is a text has no place for it")
        try:
            return row_example(self.schema, Row(row.place, values), group)
        except RowError as error:
            named = [key for key in self.table if f"'{key}'" in str(error)]
            table = "".join(f' (fields.{key} = "{self.table[key]}")' for key in named)
            raise RowError(f"{error}{table}", error.hint) from error

    def _value(self, key: str, value: str, row: Row) -> Any:
        if not value:
            return ""
        names = _PLACEHOLDER.findall(value)
        if not names:
            return row.values[value]
        for name in names:
            part = row.values[name]
            if isinstance(part, bool) or not isinstance(part, (str, int, float)):
                raise RowError(f"'{name}' is {kind_of(part)}, not text (fields.{key} names it)")
            if not str(part).strip():
                raise RowError(f"'{name}' is empty (fields.{key} names it)")
        return _PLACEHOLDER.sub(lambda found: str(row.values[found[1]]), value)


def field_map(table: Mapping[str, str]) -> FieldMap | None:
    """Return the map of a `fields` table, or None for an empty one.

    Raises:
        DataError: its keys don't match a known schema.
    """
    if not table:
        return None
    keys = set(table)
    known = {field for schema in SCHEMAS for field in (*schema.required, *schema.optional)}
    for key in sorted(keys - known):
        raise DataError(
            f"fields.{key}: no schema has this field{near(key, known)}",
            f"known schemas: {KNOWN_SCHEMAS}",
        )
    for schema in SCHEMAS:
        if set(schema.required) <= keys <= {*schema.required, *schema.optional}:
            return FieldMap(schema, table)
    raise DataError(
        f"fields: {', '.join(sorted(keys))}: these keys alone make no known schema",
        f'known are {KNOWN_SCHEMAS}; for example fields = {{prompt = "...", completion = "..."}}',
    )


# Other names of these fields in data sets, the likeliest first: Dolly, OpenOrca, MetaMathQA, SQuAD,
# LMSYS-Chat, code and math collections.
_TURNS = ("conversation", "dialogue", "dialog", "turns")
_QUESTIONS = ("instruction", "question", "query", "problem", "prompt", "input")
_REPLIES = ("response", "answer", "output", "solution", "completion", "reply", "target")
_SYSTEMS = ("system", "system_prompt")


def _likely_table(lowered: Mapping[str, str]) -> dict[str, str]:
    """Return the fields table that the rows' field names suggest; empty if they suggest none.

    Args:
        lowered: the rows' fields by their lower-case names.
    """
    if turns := next((lowered[name] for name in _TURNS if name in lowered), None):
        return {"messages": turns}
    asked = next((name for name in _QUESTIONS if name in lowered), None)
    answered = next((name for name in _REPLIES if name in lowered and name != asked), None)
    if asked is None or answered is None:
        return {}
    table = {"question": lowered[asked], "answer": lowered[answered]}
    if system := next((name for name in _SYSTEMS if name in lowered), None):
        table["system"] = lowered[system]
    about = [name for name in CONTEXTS_OF_QUESTIONS if name in lowered and name != asked]
    if len(about) == 1:
        table["context"] = lowered[about[0]]
    return table


def unrecognized(shown: str, fields: Collection[str]) -> DataError:
    """Build the error for rows whose fields fit no schema."""
    found = listed(sorted(map(str, fields))) or "none"
    lowered = {str(field).lower(): str(field) for field in fields}
    schema = recognize(lowered)
    if schema is not None:
        table = ", ".join(f'{field} = "{lowered[field]}"' for field in schema.required)
    elif likely := _likely_table(lowered):
        table = ", ".join(f'{key} = "{field}"' for key, field in likely.items())
    elif "prompt" in fields:
        table = 'prompt = "prompt", completion = "..."'
    else:
        table = 'prompt = "The capital of {name} is", completion = " {capital}"'
    return DataError(
        f"{shown}: the fields ({found}) fit no known schema ({KNOWN_SCHEMAS})",
        f"map the fields, or build a text from them: fields = {{{table}}} in the profile's "
        "[[tasks]] (`sf data check` has --field; for `sf profile init`, rename the rows' fields)",
    )


# One comparison takes tens of microseconds.
_MOST_COMPARED = 2000


def near(name: str, names: Collection[str]) -> str:
    """Return "; did you mean 'x'?" for the name nearest to `name`, or nothing."""
    if len(names) > _MOST_COMPARED:
        return ""
    close = nearest_name(name, [str(other) for other in names])
    return f"; did you mean '{close}'?" if close else ""


TURN_KEYS = frozenset(
    {
        *("role", "content", "from", "value"),
        *("tool_calls", "function_call", "tool_call_id", "name"),
        *("reasoning_content", "reasoning", "thinking"),
        *TURN_MARKS,
    }
)
"""Keys of a turn that are read, or refused if they can't be."""

_CALL_KEYS = frozenset({"id", "type", "index", "function", "name", "arguments"})
_FUNCTION_KEYS = frozenset({"name", "arguments"})
_PART_KEYS = frozenset({"type", "text", "value"})

# Lists of objects that are read as a whole.
_NO_TURNS = frozenset({"tools", "functions", "history"})


class UnusedFields:
    """Counts the rows in which a field has a value that nothing reads."""

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
        """Return each unused field and its number of rows, the most frequent first."""
        return tuple(self._rows.most_common())

    def notes(self) -> list[str]:
        """Return one note with the unused fields, or none."""
        counts = self.counts()
        if not counts:
            return []
        named = [f"{short_name(name)} ({count_rows(rows)})" for name, rows in counts[:SHOWN_FIELDS]]
        more = f" and {len(counts) - SHOWN_FIELDS} more" if len(counts) > SHOWN_FIELDS else ""
        return [f"fields not used: {', '.join(named)}{more}"]


def _turn_keys(field: str, value: Any) -> set[str]:
    """Return the unused keys of a row's turns, as `messages[].key`."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:  # a table's cell; a text that is not JSON has no keys
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return set()
    found: set[str] = set()
    if not isinstance(value, (list, tuple)):
        return found
    for turn in value:
        if turn.__class__ is dict and len(turn) == 2:
            # The common case: a role and a text.
            if isinstance(turn.get("content"), str) and "role" in turn:
                continue
            if "from" in turn and "value" in turn:
                continue
        if not isinstance(turn, Mapping):
            continue
        unread = turn.keys() - TURN_KEYS
        if turn.get("from") is not None:
            # Then `from` and `value` are read instead of these.
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
