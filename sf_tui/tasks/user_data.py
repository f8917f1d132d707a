"""A user's own data as a task: read, recognized, checked and split.

Holds out a number or share of rows, in whole groups, and the same rows every time. Knows nothing of
tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sf_tui.errors import DataError
from sf_tui.tasks.loaded_rows import LoadedExamples, load_examples
from sf_tui.tasks.reading import locate, shown_path
from sf_tui.tasks.task import (
    Example,
    FixedExamples,
    Task,
    content_key,
    count_rows,
    guess_floor,
    prompt_key,
)
from sf_tui.vocabulary.sizes import counted


class DataSettings(Protocol):
    """The settings of one task's data, as in a profile's `[[tasks]]` table."""

    @property
    def name(self) -> str:
        """The task's name."""

    @property
    def data(self) -> str:
        """A path or a data set's id."""

    @property
    def held_out(self) -> float | int | str | None:
        """A share, a number of rows, a file, or None for the default."""

    @property
    def group(self) -> str | None:
        """The field that keeps rows with the same value on one side of the split."""

    @property
    def fields(self) -> Mapping[str, str]:
        """The `fields` table, for schemas that aren't recognized."""

    @property
    def on_bad_row(self) -> str:
        """`error` or `skip`."""

    @property
    def split(self) -> str | None:
        """The split of a data set's id."""

    @property
    def subset(self) -> str | None:
        """The configuration of a data set's id."""


def user_task(settings: DataSettings, base_dir: Path, seed: int) -> Task:
    """Read a user's own data as a task.

    Args:
        settings: the task's table of a profile.
        base_dir: directory that relative paths start from.
        seed: determines which rows are held out if `held_out` names no file.

    Raises:
        DataError: the data can't be used; the message has the place and what to do.
    """
    loaded = _load(settings, settings.data, base_dir)
    if isinstance(settings.held_out, str):
        train, held_out, notes = _beside_file(settings, settings.held_out, loaded, base_dir)
    else:
        train, held_out, notes = _by_split(settings, settings.held_out, loaded, seed)
    return Task(
        name=settings.name,
        train=FixedExamples(tuple(train)),
        held_out=tuple(held_out),
        # A user's groups only keep rows together, so they share one floor.
        guess_floor=guess_floor(held_out, grouped=False),
        notes=(*loaded.notes, *notes),
    )


def load_held_out_file(settings: DataSettings, file: str, base_dir: Path) -> LoadedExamples:
    """Read a task's file of held-out rows, even if its other data are missing.

    Raises:
        DataError: the file can't be used.
    """
    return _load(settings, file, base_dir, file=True)


def _load(settings: DataSettings, data: str, base_dir: Path, file: bool = False) -> LoadedExamples:
    return load_examples(
        data,
        base_dir,
        fields=settings.fields,
        on_bad_row=settings.on_bad_row,
        group=settings.group,
        split=None if file else settings.split,
        subset=None if file else settings.subset,
    )


_Parts = tuple[Sequence[Example], Sequence[Example], list[str]]


def _by_split(
    settings: DataSettings, held_out: float | None, loaded: LoadedExamples, seed: int
) -> _Parts:
    examples = loaded.examples
    split = split_examples(examples, held_out, seed, loaded.shown, settings.group is not None)
    notes = [f"held out: {len(split.held_out)} of {count_rows(len(examples))}"]
    if settings.group is not None:
        groups = len({example.group for example in examples})
        notes[0] += f", whole groups of '{settings.group}' ({counted(groups, 'group')})"
    elif split.units < len(examples):
        repeated = count_rows(len(examples) - split.units)
        notes[0] += f"; same prompt as another, so on the same side: {repeated}"
    return (
        [examples[index] for index in split.train],
        [examples[index] for index in split.held_out],
        notes,
    )


def _beside_file(
    settings: DataSettings, file: str, loaded: LoadedExamples, base_dir: Path
) -> _Parts:
    """Take held-out rows from a file and remove them from training."""
    if locate(file, base_dir) is None:
        raise DataError(
            f'held_out = "{file}": no such file in {shown_path(base_dir)}',
            "give a file's path, a share between 0 and 1, or a number of rows",
        )
    scored = load_held_out_file(settings, file, base_dir)
    notes = [*scored.notes, f"held out: {count_rows(len(scored.examples))}, {scored.shown}"]
    same = {content_key(example) for example in scored.examples}
    train = [example for example in loaded.examples if content_key(example) not in same]
    leaked = len(loaded.examples) - len(train)
    if leaked:
        notes.append(f"in both files, so left out of training: {count_rows(leaked)}")
    if settings.group is not None:
        groups = {example.group for example in scored.examples}
        apart = [example for example in train if example.group not in groups]
        if len(apart) < len(train):
            notes.append(
                f"of a held-out group of '{settings.group}', so left out of training: "
                f"{count_rows(len(train) - len(apart))}"
            )
        train = apart
    asked = {prompt_key(example) for example in scored.examples}
    alike = sum(prompt_key(example) in asked for example in train)
    if alike:
        notes.append(
            f"asked in held-out rows too, but with another answer, so kept: {count_rows(alike)}"
        )
    if not train:
        raise DataError(
            f"{loaded.shown}: no row is left to train on: all are in {scored.shown} too",
            "name different files, or give held_out a share",
        )
    return train, scored.examples, notes


DEFAULT_SHARE = 0.10
DEFAULT_MOST = 512


@dataclass(frozen=True)
class Split:
    """Indices of examples, each list in file order."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]
    units: int
    """Number of sets of examples that stay together; an unrelated example is a set of its own."""


def held_out_count(rows: int, held_out: float | None, shown: str) -> int:
    """Return the number of rows to hold out.

    Args:
        rows: number of rows.
        held_out: a share between 0 and 1, a number of rows, or None for 10 %, at most 512.
        shown: the data's name in errors.

    Raises:
        DataError: one side would be empty.
    """
    if rows < 2:
        raise DataError(
            f"{shown}: {count_rows(rows)} can't be split into training and held-out rows",
            'add rows, or name a file of held-out rows: held_out = "held-out.jsonl"',
        )
    if held_out is None:
        return max(1, min(DEFAULT_MOST, round(DEFAULT_SHARE * rows)))
    if isinstance(held_out, int):
        if not 1 <= held_out < rows:
            raise DataError(
                f"{shown}: held_out = {held_out} of {rows} rows",
                f"it must be at least 1 and leave a row to train on: at most {rows - 1}",
            )
        return held_out
    if not 0 < held_out < 1:
        raise DataError(
            f"{shown}: held_out = {held_out} is no share",
            "give a share between 0 and 1, a number of rows, or a file",
        )
    return min(rows - 1, max(1, round(held_out * rows)))


def split_examples(
    examples: Sequence[Example],
    held_out: float | None,
    seed: int,
    shown: str = "data",
    by_group: bool = False,
) -> Split:
    """Choose which examples are held out.

    Examples with the same prompt stay on one side, and so do those of one group. The choice
    depends on the seed and the content of the examples, not on their order; adding rows later
    moves few others to the other side.

    Args:
        examples: at least two.
        held_out: see `held_out_count`; fewer if groups don't fit.
        seed: determines the choice.
        shown: the data's name in errors.
        by_group: whether examples with the same `group` stay together.

    Raises:
        DataError: one side would be empty.
    """
    wanted = held_out_count(len(examples), held_out, shown)
    units = _units(examples, by_group)
    if len(units) == 1:
        what = "group or prompt" if by_group else "prompt"
        raise DataError(
            f"{shown}: all {len(examples)} rows have one {what} in common, so they can't be split",
            'choose another group key, or name a file: held_out = "held-out.jsonl"',
        )
    drawn = sorted(
        units, key=lambda unit: min(_draw(examples[index], seed, by_group) for index in unit)
    )
    chosen: list[int] = []
    for unit in drawn:
        if len(chosen) + len(unit) <= wanted:
            chosen += unit
        if len(chosen) == wanted:
            break
    if not chosen:  # every unit is larger than the wanted number
        chosen = min(drawn, key=len)
    outside = set(chosen)
    return Split(
        train=tuple(index for index in range(len(examples)) if index not in outside),
        held_out=tuple(sorted(chosen)),
        units=len(units),
    )


def _draw(example: Example, seed: int, by_group: bool) -> bytes:
    """Return a hash of an example; the unit with the smallest hash goes first."""
    key = ("group", example.group) if by_group else prompt_key(example)
    text = "\x1f".join((str(seed), *key))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _units(examples: Sequence[Example], by_group: bool) -> list[list[int]]:
    """Return the sets of examples that must stay together (union-find over their keys)."""
    parent = list(range(len(examples)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, ...], int] = {}
    for index, example in enumerate(examples):
        keys = [("prompt key", *prompt_key(example))]
        if by_group:
            keys.append(("group key", example.group))
        for key in keys:
            other = first.setdefault(key, index)
            parent[root(index)] = root(other)
    units: dict[int, list[int]] = {}
    for index in range(len(examples)):
        units.setdefault(root(index), []).append(index)
    return list(units.values())
