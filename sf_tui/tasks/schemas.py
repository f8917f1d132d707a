"""The conventional schemas of tuning data, and how a row of each becomes an example.

A row's schema is recognized by its fields; a `fields` table in the profile names them for
anything else. Knows nothing of files or tokens.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sf_tui.errors import DataError
from sf_tui.tasks.json_rows import kind_of
from sf_tui.tasks.rows import Row, RowError
from sf_tui.tasks.task import Example, Message
from sf_tui.tasks.turns import check_turns, read_turns, text_of

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Schema:
    """One way in which data sets write their rows."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    build: Callable[[Values], Example]
    """Make the example of a row that has the required fields; raises RowError."""


def _build_completion(values: Values) -> Example:
    # An empty prompt is plain text to go on with: a pretraining corpus.
    prompt = text_of(values["prompt"], "'prompt'", may_be_empty=True)
    return Example(prompt=prompt, completion=text_of(values["completion"], "'completion'"))


def _pair(question: str, answer: str) -> Callable[[Values], Example]:
    def build(values: Values) -> Example:
        asked = text_of(values[question], f"'{question}'")
        answered = text_of(values[answer], f"'{answer}'")
        return _conversation(values, (Message("user", asked), Message("assistant", answered)))

    return build


def _build_instruction(values: Values) -> Example:
    instruction = text_of(values["instruction"], "'instruction'")
    given = values.get("input")
    if given is not None:
        given = text_of(given, "'input'", may_be_empty=True)
    asked = f"{instruction}\n{given}" if given else instruction
    answered = text_of(values["output"], "'output'")
    turns = [*_history(values), Message("user", asked), Message("assistant", answered)]
    return _conversation(values, tuple(turns))


def _history(values: Values) -> list[Message]:
    """Return earlier turns, written as pairs of question and answer."""
    turns = []
    history = values.get("history") or []
    if not isinstance(history, (list, tuple)):
        raise RowError(f"'history' is {kind_of(history)}, not a list of pairs")
    for number, pair in enumerate(history, 1):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise RowError(f"'history' {number} is no pair of question and answer")
        turns.append(Message("user", text_of(pair[0], f"'history' {number}")))
        turns.append(Message("assistant", text_of(pair[1], f"'history' {number}")))
    return turns


def _turns(field: str) -> Callable[[Values], Example]:
    def build(values: Values) -> Example:
        return _conversation(values, read_turns(values[field], field), field)

    return build


def _conversation(values: Values, turns: tuple[Message, ...], field: str = "turns") -> Example:
    """Make an example of turns and the row's own `system` text and `tools`.

    Tools are told in the system turn, as text: without them a call would come from nowhere, and
    chat templates differ in how, or whether, they take them.
    """
    told = []
    if values.get("system"):
        if turns[0].role == "system":
            raise RowError("has both a 'system' field and a system turn")
        told.append(text_of(values["system"], "'system'", may_be_empty=True))
    tools = values.get("tools")
    if tools not in (None, "", "[]", []):
        told.append(f"Tools:\n{tools if isinstance(tools, str) else orjson.dumps(tools).decode()}")
    if told:
        if turns[0].role == "system":
            told.insert(0, turns[0].content)
            turns = turns[1:]
        turns = (Message("system", text_of("\n\n".join(told), "'tools'")), *turns)
    check_turns(turns, field)
    return Example(messages=turns)


_AROUND_TURNS = ("system", "tools")

# The first that fits decides: whole conversations before their parts.
SCHEMAS: tuple[Schema, ...] = (
    Schema("messages", ("messages",), _AROUND_TURNS, _turns("messages")),
    Schema("conversations", ("conversations",), _AROUND_TURNS, _turns("conversations")),
    Schema("prompt/completion", ("prompt", "completion"), (), _build_completion),
    Schema("prompt/answer", ("prompt", "answer"), ("system",), _pair("prompt", "answer")),
    Schema("question/answer", ("question", "answer"), ("system",), _pair("question", "answer")),
    Schema(
        "instruction/input/output",
        ("instruction", "output"),
        ("input", "system", "history"),
        _build_instruction,
    ),
)

KNOWN_SCHEMAS = ", ".join(schema.name for schema in SCHEMAS)


def recognize(fields: Collection[str]) -> Schema | None:
    """Return the first schema whose required fields are all among `fields`."""
    return next((s for s in SCHEMAS if set(s.required) <= set(fields)), None)


def also_fitting(schema: Schema, fields: Collection[str]) -> tuple[str, ...]:
    """Return the names of the other schemas that `fields` would fit as well."""
    fitting = [s.name for s in SCHEMAS if set(s.required) <= set(fields)]
    return tuple(name for name in fitting if name != schema.name)


def row_example(schema: Schema, row: Row, group: str = "") -> Example:
    """Make the example of a row.

    Raises:
        RowError: if a field is missing, empty or of the wrong type.
    """
    for field in schema.required:
        if field not in row.values:
            found = ", ".join(map(str, row.values)) or "none"
            raise RowError(f"'{field}' is missing (fields: {found})")
    built = schema.build(row.values)
    return Example(built.prompt, built.completion, built.messages, group=group, place=row.place)


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
        try:
            return row_example(self.schema, Row(row.place, values), group)
        except RowError as error:
            named = [key for key in self.table if f"'{key}'" in str(error)]
            told = "".join(f' (fields.{key} = "{self.table[key]}")' for key in named)
            raise RowError(f"{error}{told}") from error

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


def unrecognized(shown: str, fields: Collection[str]) -> DataError:
    """Build the error for rows whose fields fit no schema."""
    found = ", ".join(sorted(map(str, fields))) or "none"
    lowered = {str(field).lower(): str(field) for field in fields}
    schema = recognize(lowered)
    if schema is not None:
        table = ", ".join(f'{field} = "{lowered[field]}"' for field in schema.required)
    elif "prompt" in fields:
        table = 'prompt = "prompt", completion = "..."'
    else:
        table = 'prompt = "The capital of {name} is", completion = " {capital}"'
    return DataError(
        f"{shown}: the fields ({found}) fit no known schema ({KNOWN_SCHEMAS})",
        f"say which field is which, or make a text of them: fields = {{{table}}}",
    )


def near(name: str, names: Collection[str]) -> str:
    """Return "; did you mean 'x'?" for the name nearest to `name`, or nothing."""
    close = difflib.get_close_matches(name, [str(other) for other in names], n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
