"""A user's own data as a task: read, recognized, checked and split.

Knows the rules of the split and what a person must be told. Knows nothing of tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sf_tui.errors import DataError
from sf_tui.tasks.loaded_rows import LoadedExamples, load_examples
from sf_tui.tasks.reading import locate, shown_path
from sf_tui.tasks.rows import (
    count_rows,
)
from sf_tui.tasks.splitting import content_key, prompt_key, split_examples
from sf_tui.tasks.task import Example, FixedExamples, Task


class DataSettings(Protocol):
    """What a profile says of one task's data; its `[[tasks]]` table has all of it."""

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
        """The field whose rows stay on one side of the split."""

    @property
    def fields(self) -> Mapping[str, str]:
        """Which field is which, for schemas that aren't recognized."""

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
    """Make a task of a user's own data.

    Args:
        settings: the task's table of a profile.
        base_dir: where relative paths start.
        seed: decides which rows are held out when `held_out` names no file.

    Raises:
        DataError: if the data can't be used; the message says where and what to do.
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
        guess_floor=_guess_floor(held_out),
        notes=(*loaded.notes, *notes),
    )


def load_held_out_file(settings: DataSettings, file: str, base_dir: Path) -> LoadedExamples:
    """Read the file of held-out rows that a task names, whatever has become of its other data.

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
        notes[0] += f", whole groups of '{settings.group}' ({groups} groups)"
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
    """Take held-out rows from a file, and leave what they hold out of training."""
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


def _guess_floor(held_out: Iterable[Example]) -> dict[str, float]:
    """Return the share of the most frequent answer among all held-out rows.

    A user's groups say what stays together, not what is asked, so they have no floor of their own.
    """
    answers: Counter[Any] = Counter(
        tuple(m.content for m in example.messages if m.role == "assistant") or example.completion
        for example in held_out
    )
    return {"": max(answers.values()) / answers.total()}
