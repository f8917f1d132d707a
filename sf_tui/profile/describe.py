"""Values and types in words, for messages and for the profile that `sf profile init` writes.

Knows pydantic's fields and TOML's kinds of value; knows nothing of particular keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sf_tui.profile.values import RegisteredName, Wanted

LONGEST_VALUE = 60
BARE_KEY = re.compile(r"^[A-Za-z0-9_-]+\Z")


def kind_of(value: object) -> str:
    """Name the kind of a TOML value."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int):
        return "a whole number"
    if isinstance(value, float):
        return "a number"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return "a date or time"


def toml_value(value: object, longest: int = LONGEST_VALUE) -> str:
    """Write a value as TOML has it, on one line and cut short."""
    text = _toml(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        inner = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in inner) + '"'
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        pairs = (f"{_toml_key(key)} = {_toml(inner)}" for key, inner in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return str(value)


def _toml_key(key: str) -> str:
    return key if BARE_KEY.match(key) else _toml(key)


def listed(names: Sequence[str]) -> str:
    """Write names one after the other, the last behind an "and"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def wanted_text(field: FieldInfo, value: object = None) -> str:
    """Tell in words what a field takes, to somebody who gave it a value that it doesn't take."""
    for note in field.metadata:
        if isinstance(note, Wanted):
            return note.given(value)
        if isinstance(note, RegisteredName):
            return "one of " + ", ".join(note.names())
    return _wanted(field.annotation, value) or "another value"


def _wanted(annotation: Any, value: object) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        base, *notes = get_args(annotation)
        own = next((note.given(value) for note in notes if isinstance(note, Wanted)), "")
        return own or _wanted(base, value)
    if origin in (Union, UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        return next(filter(None, (_wanted(part, value) for part in inner)), "")
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if annotation is bool:
        return "true or false"
    if annotation is str:
        return "text"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "a table"
    if origin is list:
        return "a list of tables"
    return ""


def choices_of(field: FieldInfo) -> list[str]:
    """Return the values that a field takes when they are a list of names, else nothing."""
    for note in field.metadata:
        if isinstance(note, RegisteredName):
            return list(note.names())
    return choices(field.annotation)


def choices(annotation: Any) -> list[str]:
    """Return the values that an annotation takes when they are a fixed list, else nothing."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [value for part in get_args(annotation) for value in choices(part)]
    return []


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """Return the table model inside an annotation like `Model | None`, `list[Model]`, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        found = inner_model(part)
        if found is not None:
            return found
    return None
