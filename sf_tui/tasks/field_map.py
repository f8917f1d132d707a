"""A profile's `fields` table: which field of the rows stands for which of a known schema.

Knows also what to propose for rows that fit no schema. Knows nothing of files or tokens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sf_tui.errors import DataError, nearest_name
from sf_tui.tasks.json_rows import kind_of
from sf_tui.tasks.rows import Row, RowError
from sf_tui.tasks.schemas import (
    CONTEXTS_OF_QUESTIONS,
    KNOWN_SCHEMAS,
    SCHEMAS,
    Schema,
    recognize,
    row_example,
    used_fields,
)
from sf_tui.tasks.task import Example
from sf_tui.tasks.unused import listed

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class FieldMap:
    """A profile's `fields` table: what stands for each field of a known schema.

    A value is the name of a field, or a text with names in braces (`"Capital of {subject}:"`), or
    empty for an empty text.
    """

    schema: Schema
    table: Mapping[str, str]

    def names(self) -> dict[str, str]:
        """Return every field of the rows that the table uses, with the key that uses it."""
        used: dict[str, str] = {}
        for key, value in self.table.items():
            for name in _PLACEHOLDER.findall(value) or ([value] if value else []):
                used.setdefault(name, key)
        return used

    def example(self, row: Row, group: str = "") -> Example:
        """Make the example of a row.

        Raises:
            RowError: if a field that the table names is missing, empty or of the wrong type.
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
            told = "".join(f' (fields.{key} = "{self.table[key]}")' for key in named)
            raise RowError(f"{error}{told}", error.hint) from error

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
        DataError: if its keys make no known schema.
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
        f"fields: {', '.join(sorted(keys))} together make no known schema",
        f'known are {KNOWN_SCHEMAS}; for example fields = {{prompt = "...", completion = "..."}}',
    )


# How data sets also call what the schemas name, the likeliest first: Dolly, OpenOrca, MetaMathQA,
# SQuAD, LMSYS-Chat, code and math collections.
_TURNS = ("conversation", "dialogue", "dialog", "turns")
_QUESTIONS = ("instruction", "question", "query", "problem", "prompt", "input")
_REPLIES = ("response", "answer", "output", "solution", "completion", "reply", "target")
_SYSTEMS = ("system", "system_prompt")


def _likely_table(lowered: Mapping[str, str]) -> dict[str, str]:
    """Return the fields table that names of data sets suggest; empty where none does.

    Args:
        lowered: the rows' fields by their names in small letters.
    """
    if turns := next((lowered[name] for name in _TURNS if name in lowered), None):
        return {"messages": turns}
    asked = next((name for name in _QUESTIONS if name in lowered), None)
    answered = next((name for name in _REPLIES if name in lowered and name != asked), None)
    if asked is None or answered is None:
        return {}
    table = {"question": lowered[asked], "answer": lowered[answered]}
    if told := next((name for name in _SYSTEMS if name in lowered), None):
        table["system"] = lowered[told]
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
        f"say which field is which, or make a text of them: fields = {{{table}}}",
    )


# Comparing one name takes tens of microseconds.
_MOST_COMPARED = 2000


def near(name: str, names: Collection[str]) -> str:
    """Return "; did you mean 'x'?" for the name nearest to `name`, or nothing."""
    if len(names) > _MOST_COMPARED:
        return ""
    close = nearest_name(name, [str(other) for other in names])
    return f"; did you mean '{close}'?" if close else ""
