"""In which keys two profiles differ, told by key: for a run that is to go on as it was begun.

Compares resolved profiles, so a default that is written out differs from nothing. Knows no run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sf_tui.masking import mask_text
from sf_tui.profile.describe import toml_value
from sf_tui.profile.schema import Profile

_ABSENT = object()


@dataclass(frozen=True)
class Difference:
    """A key with two values."""

    key: str
    """As `--set` names it: `train.steps`, `tasks.new.data`."""
    ours: str
    """What the run has, as TOML."""
    theirs: str
    """What is asked for, as TOML."""


def differences(ours: Profile, theirs: Profile) -> list[Difference]:
    """Return the keys in which two resolved profiles differ, in the order of the schema."""
    return list(_between("", ours.model_dump(), theirs.model_dump()))


def _between(key: str, ours: Any, theirs: Any) -> Iterator[Difference]:
    ours, theirs = _by_name(ours), _by_name(theirs)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            inner = f"{key}.{name}" if key else str(name)
            yield from _between(inner, ours.get(name, _ABSENT), theirs.get(name, _ABSENT))
        # The order of the tasks is the order in which they are learnt.
        if list(ours) != list(theirs) and set(ours) == set(theirs) and key in ("tasks", "rules"):
            yield Difference(key, _told(list(ours)), _told(list(theirs)))
    elif ours != theirs:
        yield Difference(key, _told(ours), _told(theirs))


def _by_name(value: Any) -> Any:
    """Turn a list of named tables into a table, as `--set` reaches into it."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        names = [one.get("name") for one in value]
        if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            return dict(zip(names, value, strict=True))
    return value


def _told(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    return "none" if value is None else mask_text(toml_value(value))
