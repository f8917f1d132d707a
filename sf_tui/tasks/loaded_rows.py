"""All rows of a file or data set as examples: schema, bad rows, unused fields, notes for the user.

Knows nothing of splits or tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sf_tui.errors import DataError
from sf_tui.tasks.fields import FieldMap, UnusedFields, field_map, near, unrecognized
from sf_tui.tasks.marks import check_row_marks, is_present
from sf_tui.tasks.reading import locate, read_rows, shown_path
from sf_tui.tasks.schemas import (
    Schema,
    also_fitting,
    check_answers,
    check_preference,
    context_of,
    recognize,
    row_example,
    used_fields,
)
from sf_tui.tasks.task import (
    SHOWN_BAD_ROWS,
    BadRow,
    Example,
    Row,
    RowError,
    bad_rows_error,
    count_rows,
    kind_of,
    listed,
    prompt_key,
)

SKIP_HINT = 'fix the rows, or skip them with on_bad_row = "skip"'

# Two stray quotes at cell borders turn all lines between them into one valid row; only its length
# reveals it. In a file with multi-line answers, many rows have line breaks.
ODD_LINES = 3
ODD_SHARE = 0.05

# Placeholders that should have been filled in, as in "I am {{name}}".
_UNFILLED = re.compile(r"\{\{\s*\w+\s*\}\}")


@dataclass(frozen=True)
class LoadedExamples:
    """The examples of one file or data set."""

    shown: str
    """Its name in messages."""
    examples: tuple[Example, ...]
    """One per good row; at least one."""
    schema: Schema
    rows: int
    """Number of rows read, good and bad."""
    bad: int
    """Number of rows left out."""
    first_bad: tuple[BadRow, ...]
    notes: tuple[str, ...]
    unused: tuple[tuple[str, int], ...] = ()
    """Fields and turn keys that nothing reads, each with its number of good rows."""


def load_examples(
    data: str,
    base_dir: Path,
    *,
    fields: Mapping[str, str] | None = None,
    on_bad_row: str = "error",
    group: str | None = None,
    split: str | None = None,
    subset: str | None = None,
) -> LoadedExamples:
    """Read all examples of a file or a data set.

    The first row that makes an example decides the schema; rows of another schema are bad rows.

    Args:
        data: a path, relative to `base_dir` or absolute, or a `datasets` id.
        base_dir: where relative paths start.
        fields: the `fields` table, for rows whose names fit no schema.
        on_bad_row: `error`, or `skip` to leave bad rows out and count them.
        group: the field with the group of an example.
        split: the split of a data set's id.
        subset: the configuration of a data set's id.

    Raises:
        DataError: there is a bad row that is not skipped, or no good row.
    """
    path = locate(data, base_dir)
    shown = data if path is None else shown_path(path)
    collector = _Collector(field_map(fields or {}), group)
    for row in read_rows(data, base_dir, split, subset):
        collector.add(row)
    if not collector.rows:
        raise DataError(f"{shown}: holds no row", "it must hold at least two rows")
    if collector.schema is None:
        raise collector.nothing_usable(shown)
    if collector.bad and on_bad_row == "error":
        hint = collector.hint or SKIP_HINT
        raise bad_rows_error(collector.first_bad, collector.bad, collector.rows, hint)
    return LoadedExamples(
        shown=shown,
        examples=tuple(collector.examples),
        schema=collector.schema,
        rows=collector.rows,
        bad=collector.bad,
        first_bad=tuple(collector.first_bad),
        notes=tuple(collector.notes(shown)),
        unused=collector.unused.counts(),
    )


class _Collector:
    """Turns rows into examples one by one, and keeps the first bad rows and counts."""

    def __init__(self, mapped: FieldMap | None, group: str | None) -> None:
        self.mapped = mapped
        self.group = group
        self.schema: Schema | None = None
        self.others: tuple[str, ...] = ()
        self.examples: list[Example] = []
        self.rows = 0
        self.bad = 0
        self.first_bad: list[BadRow] = []
        self.fields: dict[str, None] = {}
        """Every field seen, in order of first appearance."""
        self.recognized_any = False
        self.hint = ""
        """The hint of the first bad row that has one."""
        self.unused = UnusedFields()
        self.contexts: Counter[str] = Counter()
        self.long_rows = 0
        """Number of rows that span several lines."""
        self.longest: Row | None = None

    def add(self, row: Row | BadRow) -> None:
        # A broken record may contain other rows: count each of its lines.
        lines = row.lines if isinstance(row, BadRow) else 1
        self.rows += lines
        if isinstance(row, Row):
            self.fields.update(dict.fromkeys(map(str, row.values)))
            if row.lines > 1:
                self.long_rows += 1
                if self.longest is None or row.lines > self.longest.lines:
                    self.longest = row
            try:
                self.examples.append(self._example(row))
                return
            except RowError as problem:
                self.hint = self.hint or problem.hint
                row = BadRow(row.place, str(problem))
        self.bad += lines
        if len(self.first_bad) < SHOWN_BAD_ROWS:
            self.first_bad.append(row)

    def _example(self, row: Row) -> Example:
        group = self._group_of(row)
        chosen = self.mapped.names() if self.mapped else {}
        understood = check_row_marks(row.values, chosen)
        if self.mapped is not None:
            example = self.mapped.example(row, group)
            self.schema = self.mapped.schema
            self._count(row, {*chosen, *understood})
            return example
        check_preference(row.values)
        schema = self.schema or recognize(row.values)
        if schema is None:
            names = listed(row.values) or "none"
            raise RowError(f"its fields ({names}) fit no known schema")
        self.recognized_any = True
        check_answers(schema, row.values)
        example = row_example(schema, row, group)
        if self.schema is None:
            self.schema = schema
            self.others = also_fitting(
                schema, [name for name, value in row.values.items() if is_present(value)]
            )
        if context := context_of(schema, row.values):
            self.contexts[context] += 1
        self._count(row, {*used_fields(schema, row.values), *understood})
        return example

    def _count(self, row: Row, used: set[str]) -> None:
        if self.group is not None:
            used.add(self.group)
        self.unused.add(row.values, used)

    def _group_of(self, row: Row) -> str:
        if self.group is None:
            return ""
        if self.group not in row.values:
            raise RowError(
                f"has no field '{self.group}', the group key{near(self.group, row.values)}"
            )
        value = row.values[self.group]
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value == "":
            what = "empty" if value == "" else kind_of(value)
            raise RowError(f"the group key '{self.group}' is {what}")
        return str(value)

    def nothing_usable(self, shown: str) -> DataError:
        """Build the error for data without a good row; all rows may have the same fault."""
        if self.fields:
            keys = dict.fromkeys([self.group], "group") if self.group is not None else {}
            for name, key in (self.mapped.names() if self.mapped else {}).items():
                keys[name] = f"fields.{key}"
            for name, key in keys.items():
                if name not in self.fields:
                    return DataError(
                        f"{shown}: {key} names the field '{name}', which no row has"
                        f"{near(name, self.fields)}",
                        f"the rows have {listed(self.fields)}",
                    )
            if self.mapped is None and not self.recognized_any and not self.hint:
                return unrecognized(shown, self.fields)
        error = bad_rows_error(self.first_bad, self.bad, self.rows, self.hint or "fix the file")
        return DataError(f"{error.message}: no row is left", error.hint)

    def _long_rows_are_odd(self) -> bool:
        """Return whether few rows have line breaks, and one of them several."""
        rows = self.rows - self.long_rows
        return (
            self.longest is not None
            and self.longest.lines >= ODD_LINES
            and self.long_rows <= max(1, ODD_SHARE * rows)
        )

    def notes(self, shown: str) -> list[str]:
        schema = self.schema.name if self.schema else ""
        how = "as its fields table says" if self.mapped else "recognized by its fields"
        notes = [f"{shown}: {count_rows(len(self.examples))} as {schema}, {how}"]
        if self.others:
            notes.append(
                f"{shown}: the fields fit {' and '.join(self.others)} as well; a fields table "
                "chooses another"
            )
        notes += [f"{shown}: {note}" for note in self.unused.notes()]
        for name, rows in self.contexts.items():
            notes.append(
                f"{shown}: '{name}' is put before the question, with a blank line between "
                f"({count_rows(rows)})"
            )
        if self.bad:
            notes.append(
                f"{shown}: {self.bad} of {count_rows(self.rows)} can't be used and are left out, "
                f"the first: {self.first_bad[0]}"
            )
        if self.longest is not None and self._long_rows_are_odd():
            notes.append(
                f"{shown}: {self.long_rows} of {count_rows(self.rows)} "
                f"reach{'es' if self.long_rows == 1 else ''} over several lines (the longest: "
                f" {self.longest.place}, {self.longest.lines} lines), the others have one: "
                "a stray quote makes one row of many, so look at it"
            )
        unfilled = [place for example in self.examples if (place := _unfilled(example))]
        if unfilled:
            notes.append(
                f"{shown}: a placeholder such as {unfilled[0]} is in "
                f"{count_rows(len(unfilled))} and is learnt as it is"
            )
        unlearnt = sum(not m.learnt for example in self.examples for m in example.messages)
        if unlearnt:
            notes.append(
                f"{shown}: {unlearnt} assistant turn{'s are' if unlearnt > 1 else ' is'} marked as "
                "not to be learnt and carr" + ("y" if unlearnt > 1 else "ies") + " no loss"
            )
        asked, rows = _asked_twice(self.examples)
        if asked:
            notes.append(
                f"{shown}: {asked} prompt{'s have' if asked > 1 else ' has'} several answers "
                f"({count_rows(rows)}), so their exact match can't reach 1"
            )
        return notes


def _asked_twice(examples: Iterable[Example]) -> tuple[int, int]:
    """Return the number of prompts with several answers, and the number of their rows."""
    answers: dict[int, int] = {}
    several: set[int] = set()
    rows: Counter[int] = Counter()
    for example in examples:
        if not example.messages and not example.prompt.strip():
            continue  # plain text has no prompt
        prompt = hash(prompt_key(example))
        first = next((m.content for m in example.messages if m.role == "assistant"), "")
        answer = hash(first or example.completion)
        rows[prompt] += 1
        if answers.setdefault(prompt, answer) != answer:
            several.add(prompt)
    return len(several), sum(rows[prompt] for prompt in several)


def _unfilled(example: Example) -> str:
    answers = [m.content for m in example.messages if m.role == "assistant"]
    found = _UNFILLED.search("\n".join([example.completion, *answers]))
    return found[0] if found else ""
