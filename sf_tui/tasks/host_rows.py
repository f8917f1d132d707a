"""Tokenized rows that another program trains on, kept in the run directory.

A host tokenizes its data itself, so its rows are stored as token ids: one JSON object a line, with
`input_ids`, `labels` (`-100` where no loss is taken) and `split`, `train` or `held_out`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson

from sf_tui.errors import DataError
from sf_tui.run.durable import replace_file
from sf_tui.tasks.encoding import Encoded
from sf_tui.tasks.task import Example, FixedExamples, Task
from sf_tui.vocabulary.sizes import counted

TRAIN, HELD_OUT = "train", "held_out"

_FOLDER = "host"


def host_file(base_dir: Path, data: str) -> Path | None:
    """Return the file that `host:FILE` data name; None for `host:`, whose rows are unknown.

    Args:
        base_dir: the run directory.
        data: the `data` of a task.
    """
    name = data.partition(":")[2]
    return base_dir / _FOLDER / name if name else None


def write_host_rows(path: Path, train: Iterable[Encoded], held_out: Iterable[Encoded]) -> None:
    """Write rows to a file, which appears only when complete.

    Raises:
        OSError: it can't be written.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    lines = [
        orjson.dumps({"input_ids": row.input_ids, "labels": row.labels, "split": split})
        for split, rows in ((TRAIN, train), (HELD_OUT, held_out))
        for row in rows
    ]
    replace_file(path, b"".join(line + b"\n" for line in lines))


def host_task(name: str, base_dir: Path, data: str) -> Task:
    """Return the task whose rows a host tokenized; `host:` alone gives one without rows.

    Without held-out rows, the task is scored on rows that the host trains on, and a note says so.

    Args:
        name: the task's name.
        base_dir: the run directory.
        data: the task's `data`.

    Raises:
        DataError: the file can't be read, or a line is no row.
    """
    path = host_file(base_dir, data)
    if path is None:
        return Task(name, FixedExamples(()), ())
    train, held_out = read_host_rows(path)
    if held_out:
        return Task(name, FixedExamples(train), held_out)
    scored = counted(len(train), "row")
    note = f"the host holds no rows out: it is scored on {scored} that it trains on"
    return Task(name, FixedExamples(train), train, notes=(note,))


def read_host_rows(path: Path) -> tuple[list[Example], list[Example]]:
    """Return the training rows and the held-out rows of a file.

    Raises:
        DataError: it can't be read, or a line is no row.
    """
    found: dict[str, list[Example]] = {TRAIN: [], HELD_OUT: []}
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: can't be read: {error.strerror}",
            "it holds the rows of the host's training; without it the run can only be shown",
        ) from error
    for number, line in enumerate(content.splitlines(), 1):
        place = f"{path}:{number}"
        try:
            row = orjson.loads(line)
            ids, labels, split = row["input_ids"], row["labels"], row["split"]
        except (orjson.JSONDecodeError, TypeError, KeyError) as error:
            raise _not_a_row(place) from error
        if split not in found or not _are_tokens(ids) or not _are_tokens(labels):
            raise _not_a_row(place)
        if len(ids) != len(labels) or len(ids) < 2:
            raise _not_a_row(place)
        found[split].append(Example(place=place, token_ids=tuple(ids), token_labels=tuple(labels)))
    return found[TRAIN], found[HELD_OUT]


def _are_tokens(value: object) -> bool:
    return isinstance(value, list) and all(type(token) is int for token in value)


def _not_a_row(place: str) -> DataError:
    return DataError(
        f"{place}: not a row of token ids", "this program writes the file; restore it from a copy"
    )
