"""A profile as TOML that says everything and loads again to an equal profile."""

from __future__ import annotations

from typing import Any

import tomlkit
from pydantic import BaseModel
from tomlkit.items import Array, InlineTable, Item, Table

from sf_tui.printable import printable_toml
from sf_tui.profile.action_schema import Action
from sf_tui.profile.check_tasks import uses_biography
from sf_tui.profile.schema import Profile


def dump_profile(profile: Profile) -> str:
    """Return the fully resolved TOML of a loaded profile.

    Keys without a value are left out, except that an action without a console key says so
    (otherwise it would get a default one back). Paths are absolute, as loading made them.
    """
    document = tomlkit.document()
    for name in Profile.model_fields:
        value = getattr(profile, name)
        if name == "actions":
            document.add(name, _actions(value))
        elif name == "biography" and not uses_biography(profile):
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
    # Tables within it go last: after a table's header no key belongs to the outer one.
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
    # Inline all the way down: a nested [table] would end the keys of the table around it.
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
