"""Which examples are held out: by number or share, whole groups at a time, the same every time.

Knows prompts and groups. Knows nothing of files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sf_tui.errors import DataError
from sf_tui.tasks.task import Example

DEFAULT_SHARE = 0.10
DEFAULT_MOST = 512


@dataclass(frozen=True)
class Split:
    """Places in the list of examples, each list in the order of the file."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]
    units: int
    """How many sets of examples had to stay together; as many as examples when none had to."""


def prompt_key(example: Example) -> tuple[str, ...]:
    """Return what two examples share when they ask the same.

    For a conversation that is all before the first answer: one that goes on further holds the
    shorter one's answer. A text without a prompt asks nothing, so it is its own key.
    """
    if example.messages:
        first = next(i for i, m in enumerate(example.messages) if m.role == "assistant")
        return tuple(f"{m.role}:{m.content}" for m in example.messages[:first])
    if example.prompt.strip():
        return ("prompt", example.prompt)
    return ("text", example.completion)


def content_key(example: Example) -> tuple[str, ...]:
    """Return what two examples share when they are the same to the last sign."""
    if example.messages:
        return tuple(f"{m.role}:{m.thoughts}\x1f{m.content}" for m in example.messages)
    return ("prompt", example.prompt, "completion", example.completion)


def held_out_count(rows: int, held_out: float | None, shown: str) -> int:
    """Return how many of `rows` rows are to be held out.

    Args:
        rows: how many there are.
        held_out: a share between 0 and 1, a number of rows, or None for 10 % but at most 512.
        shown: how the data is called in errors.

    Raises:
        DataError: if nothing would be left on either side.
    """
    if rows < 2:
        raise DataError(
            f"{shown}: {rows} row{'' if rows == 1 else 's'} can't be split into training and "
            "held-out rows",
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
    depends on the seed and on what the examples say, not on their order, and rows that are added
    later change the side of few others.

    Args:
        examples: two at least.
        held_out: see `held_out_count`; groups that don't fit make it fewer.
        seed: decides which ones.
        shown: how the data is called in errors.
        by_group: whether examples with the same `group` stay together.

    Raises:
        DataError: if nothing would be left on either side.
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
    if not chosen:  # every unit is larger than what is wanted
        chosen = min(drawn, key=len)
    outside = set(chosen)
    return Split(
        train=tuple(index for index in range(len(examples)) if index not in outside),
        held_out=tuple(sorted(chosen)),
        units=len(units),
    )


def _draw(example: Example, seed: int, by_group: bool) -> bytes:
    """Return the number that an example has drawn: the unit with the smallest goes first."""
    key = ("group", example.group) if by_group else prompt_key(example)
    text = "\x1f".join((str(seed), *key))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _units(examples: Sequence[Example], by_group: bool) -> list[list[int]]:
    """Return the sets of examples that must stay together, by a union-find over their keys."""
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
