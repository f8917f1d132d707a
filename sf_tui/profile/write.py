"""Resolved profiles as TOML that loads to an equal profile, and the differences between two.

Compares resolved profiles, so an explicit default is not a difference. Knows nothing about runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tomlkit
from pydantic import BaseModel
from tomlkit.items import Array, InlineTable, Item, Table

from sf_tui.masking import mask_text
from sf_tui.printable import printable_toml
from sf_tui.profile.action_schema import Action
from sf_tui.profile.check_data import uses_biography
from sf_tui.profile.schema import Profile
from sf_tui.profile.values import toml_value


def dump_profile(profile: Profile) -> str:
    """Return the fully resolved TOML of a loaded profile.

    Keys without a value are omitted, except that an action without a console key has key = ""
    (otherwise loading would give it the default key). Paths are absolute.
    """
    document = tomlkit.document()
    for name in Profile.model_fields:
        value = getattr(profile, name)
        if value is None:
            continue
        if name == "actions":
            document.add(name, _actions(value))
        elif value is None or (name == "biography" and not uses_biography(profile)):
            continue
        elif isinstance(value, list):
            if value:
                document.add(name, _array_of_tables(value))
        elif isinstance(value, BaseModel):
            table = _table(value)
            if table:
                document.add(name, table)
        else:
            document.add(name, _item(value))
    # tomlkit escapes C0 and DEL only.
    return printable_toml(tomlkit.dumps(document))


def _table(model: BaseModel) -> Table:
    table = tomlkit.table()
    # Nested tables go last: after a table's header, no key can belong to the outer table.
    for name, value in sorted(model, key=lambda pair: isinstance(pair[1], BaseModel)):
        if isinstance(value, BaseModel):
            table.add(name, _table(value))
        elif value is not None and value != {}:
            table.add(name, _item(value))
    return table


def _array_of_tables(models: list[Any]) -> Item:
    array = tomlkit.aot()
    for model in models:
        array.append(_table(model))
    return array


def _actions(actions: dict[str, Action]) -> Table:
    tables = tomlkit.table(is_super_table=True)
    for name, action in actions.items():
        table = tomlkit.table()
        own = {key: getattr(action, key) for key in Action.model_fields}
        for key, value in {**own, "key": action.key or "", **action.own_arguments}.items():
            if value is not None:
                table.add(key, _item(value))
        tables.add(name, table)
    return tables


def _item(value: Any) -> Item:
    # Everything is inline: a nested [table] would end the keys of the table around it.
    if isinstance(value, dict):
        inline: InlineTable = tomlkit.inline_table()
        for key, inner in value.items():
            inline.append(key, _item(inner))
        return inline
    if isinstance(value, list | tuple):
        array: Array = tomlkit.array()
        for inner in value:
            array.append(_item(inner))
        return array
    item: Item = tomlkit.item(value)
    return item


_ABSENT = object()


@dataclass(frozen=True)
class Difference:
    """A key with its two values."""

    key: str
    """The key as in `--set`: `train.steps`, `tasks.new.data`."""
    ours: str
    """The run's value as TOML."""
    theirs: str
    """The other value as TOML."""


def differences(ours: Profile, theirs: Profile) -> list[Difference]:
    """Return the keys that differ between two resolved profiles, in schema order."""
    return list(_between("", ours.model_dump(), theirs.model_dump()))


def _between(key: str, ours: Any, theirs: Any) -> Iterator[Difference]:
    ours, theirs = _by_name(ours), _by_name(theirs)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            inner = f"{key}.{name}" if key else str(name)
            yield from _between(inner, ours.get(name, _ABSENT), theirs.get(name, _ABSENT))
        # The order of tasks is the order of training.
        if list(ours) != list(theirs) and set(ours) == set(theirs) and key in ("tasks", "rules"):
            yield Difference(key, _as_text(list(ours)), _as_text(list(theirs)))
    elif ours != theirs:
        yield Difference(key, _as_text(ours), _as_text(theirs))


def _by_name(value: Any) -> Any:
    """Turn a list of named tables into a dict by name, as `--set` addresses it."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        names = [one.get("name") for one in value]
        if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            return dict(zip(names, value, strict=True))
    return value


def _as_text(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    return "none" if value is None else mask_text(toml_value(value))
