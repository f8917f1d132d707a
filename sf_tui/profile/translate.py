"""Translation of pydantic's errors into problems with position, key, wanted value and remedy.

Knows the structure of the schema, but no rule that spans several keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from sf_tui.errors import did_you_mean, nearest_name
from sf_tui.profile.action_schema import Action, action_fields
from sf_tui.profile.locate import KeyPath
from sf_tui.profile.names import DATA_FIELDS, NOT_IN_THIS_VERSION
from sf_tui.profile.problems import QUOTES_HINT, Problem
from sf_tui.profile.schema import Profile
from sf_tui.profile.values import (
    choices,
    choices_of,
    inner_model,
    kind_of,
    listed,
    toml_value,
    wanted_text,
)

EXAMPLES: dict[str, str] = {
    "data": '"biography:new"',
    "source": '"starter:biography-mini"',
    "metric": '"drop"',
    "action": '"freeze"',
    "op": '"freeze"',
    "layers": "2",
    "name": '"my-name"',
}
"""Example values of required keys, for hints."""


def problems_of(
    errors: Sequence[ErrorDetails],
    raw: object,
    *,
    model: type[BaseModel] = Profile,
    above: KeyPath = (),
) -> list[Problem]:
    """Translate pydantic's errors.

    Args:
        errors: of validating `raw` as `model`.
        raw: the plain tables that were validated.
        model: the model that validated them.
        above: the path of `raw` in the profile.
    """
    problems = []
    for error in errors:
        path: KeyPath = tuple(part for part in error["loc"] if part != "[key]")
        if error["type"] == "extra_forbidden" or "[key]" in error["loc"]:
            problem = _unknown_key(model, path, above, raw)
        elif error["type"] == "missing" and _table_at(model, path[:-1]) is not None:
            problem = _missing(model, path, above)
        else:
            problem = _wrong_value(model, path, above, raw)
        if problem not in problems:
            problems.append(problem)
    return problems


def fields_of(table: type[BaseModel], raw: object = None) -> dict[str, FieldInfo]:
    """Return the fields of a table; for an action, those that its op takes.

    Args:
        table: the table's model.
        raw: the table as given, if any.
    """
    if table is Action:
        return action_fields(raw.get("op") if isinstance(raw, dict) else None)
    return dict(table.model_fields)


def _reach(
    model: type[BaseModel], path: KeyPath, raw: object = None
) -> tuple[KeyPath, FieldInfo | None, Any]:
    """Walk down the schema along a path as far as it matches.

    Args:
        model: where to start.
        path: the keys.
        raw: the value that was validated as `model`.

    Returns:
        The part of the path that the schema knows, the field there (None for an element of a list
        or a named table), and the annotation there.
    """
    reached: KeyPath = ()
    field: FieldInfo | None = None
    here: Any = model
    for part in path:
        table = _table_of(here)
        if table is not None:
            fields = fields_of(table, _value_at(raw, reached) if raw is not None else None)
            if part not in fields:
                break
            field = fields[str(part)]
            here = field.annotation
        elif get_origin(here) in (list, dict) and inner_model(here) is not None:
            field, here = None, get_args(here)[-1]
        else:
            break
        reached = (*reached, part)
    return reached, field, here


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model if the annotation is a table, not a list or dict of tables."""
    return None if get_origin(annotation) in (list, dict) else inner_model(annotation)


def _table_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    reached, _, annotation = _reach(model, path)
    return _table_of(annotation) if reached == path else None


def _value_at(raw: object, path: KeyPath) -> object:
    value: Any = raw
    for part in path:
        value = value[part]
    return value


def _unknown_key(model: type[BaseModel], path: KeyPath, above: KeyPath, raw: object) -> Problem:
    key = str(path[-1])
    table = _table_at(model, path[:-1])
    full = (*above, *path)
    if table is not None:
        known = list(fields_of(table, _value_at(raw, path[:-1])))
    else:
        known = list(DATA_FIELDS)
    text = f"unknown key '{key}'"
    near = nearest_name(key, known)
    if near is None and (elsewhere := _tables_with(key)):
        return Problem(full, text, f"'{key}' is a key of {listed(elsewhere)}")
    if near is None and key in Profile.model_fields:
        return Problem(full, text, f"{table_name(key)} is a table of its own, not part of another")
    return Problem(full, text, did_you_mean(key, known, "keys"))


def _tables_with(key: str) -> list[str]:
    """Return the names of the tables that have this key, nested tables included."""
    found = []
    for name, field in Profile.model_fields.items():
        table = inner_model(field.annotation)
        if table is None:
            continue
        if key in fields_of(table):
            found.append(table_name(name))
        for inner_name, inner_field in table.model_fields.items():
            inner = inner_model(inner_field.annotation)
            if inner is not None and key in inner.model_fields:
                found.append(f"[{name}.{inner_name}]")
    return found


def table_name(name: str) -> str:
    """Return a table's name as a profile writes it."""
    origin = get_origin(Profile.model_fields[name].annotation)
    if origin is list:
        return f"[[{name}]]"
    return f"[{name}.NAME]" if origin is dict else f"[{name}]"


def _missing(model: type[BaseModel], path: KeyPath, above: KeyPath) -> Problem:
    key = str(path[-1])
    full = (*above, *path)
    table = _table_at(model, path[:-1])
    field = table.model_fields.get(key) if table is not None else None
    if model is Profile and len(path) == 1 and key in ("model", "tasks"):
        inner = "source" if key == "model" else "name and data"
        return Problem(full, f"{table_name(key)} is missing", f"add {table_name(key)} with {inner}")
    example = EXAMPLES.get(key, "…")
    what = f": {field.description}" if field is not None and field.description else ""
    return Problem(
        full, f"the key '{key}' is missing", f"add {key} = {example}{what}", table=len(full) - 1
    )


def _wrong_value(model: type[BaseModel], path: KeyPath, above: KeyPath, raw: object) -> Problem:
    path, field, _ = _reach(model, path, raw)
    full = (*above, *path)
    value = _value_at(raw, path)
    key = str(path[-1]) if path else ""
    if field is None:
        # An element of an array of tables, or a named action, that is not a table.
        label = f"{path[0]} number {path[-1] + 1}" if isinstance(path[-1], int) else key
        return Problem(
            full,
            f"{label} = {toml_value(value)}: must be a table, not {kind_of(value)}",
            f"write it as {table_name(str(path[0]))}",
            table=0,
        )
    allowed = choices_of(field)
    if allowed and isinstance(value, str) and value in NOT_IN_THIS_VERSION.get(key, ()):
        return Problem(
            full,
            f"{key} '{value}' does not exist in this version",
            f"choose from: {', '.join(allowed)}",
        )
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        # The file is UTF-8, so the character comes from the folder's name.
        return Problem(
            full,
            f"{key}: the path is not UTF-8",
            "rename its folder; a relative path starts at the profile's own",
        )
    wanted = wanted_text(field, value)
    given = "" if _kinds_agree(field, value) else f", not {kind_of(value)}"
    return Problem(
        full,
        f"{key} = {toml_value(value)}: must be {wanted}{given}",
        _value_hint(model, path, key, field, value),
    )


def _kinds_agree(field: FieldInfo, value: object) -> bool:
    """Return whether the field takes values of this kind; then only the range is wrong."""
    kinds = _kinds(field.annotation)
    if isinstance(value, bool):
        return bool in kinds
    return any(isinstance(value, kind) for kind in kinds) or (
        float in kinds and isinstance(value, int)
    )


def _kinds(annotation: Any) -> set[type]:
    origin = get_origin(annotation)
    if origin in (dict, list, tuple):
        return {dict if origin is dict else list}
    if choices(annotation):
        return {str}
    if isinstance(annotation, type):
        return {dict} if issubclass(annotation, BaseModel) else {annotation}
    return {kind for part in get_args(annotation) for kind in _kinds(part)}


def _value_hint(
    model: type[BaseModel], path: KeyPath, key: str, field: FieldInfo, value: object
) -> str:
    allowed = choices_of(field)
    if allowed:
        near = nearest_name(value, allowed) if isinstance(value, str) else None
        return (
            f"did you mean '{near}'?" if near else f"for example {key} = {toml_value(allowed[0])}"
        )
    if model is Profile and len(path) == 1 and inner_model(field.annotation) is not None:
        return f"write it as a table: {table_name(key)}" + (
            " with two brackets" if get_origin(field.annotation) is list else ""
        )
    if model is Profile and inner_model(field.annotation) is not None:
        return f"write it as a table: [{'.'.join(map(str, path))}]"
    kinds = _kinds(field.annotation)
    if isinstance(value, str) and not kinds & {str} and _reads_as(value, kinds):
        return f"write it without quotes: {key} = {value.strip()}"
    if isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
        return f"write it as a whole number: {key} = {int(value)}"
    if kinds <= {str, NoneType} and not isinstance(value, str | dict | list):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f"{QUOTES_HINT}{key} = {toml_value(text)}"
    if key == "key" and isinstance(value, str) and ("ctrl" in value or "alt" in value):
        return "keys with ctrl or alt are lost in tmux; use a letter or digit"
    if field.default is PydanticUndefined:
        return f"for example {key} = {EXAMPLES[key]}" if key in EXAMPLES else ""
    if field.default is None or field.default == {}:
        return f"omit '{key}' for the default"
    return f"the default is {key} = {toml_value(field.default)}"


def _reads_as(value: str, kinds: set[type]) -> bool:
    text = value.strip()
    if bool in kinds:
        return text in ("true", "false")
    for kind in (int, float):
        if kind in kinds:
            try:
                kind(text)
            except ValueError:
                continue
            return True
    return False
