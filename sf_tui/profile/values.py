"""The types of a profile's values, and descriptions of values and types in words.

Types are strict: "5" is never 5, 1.0 never 1, true never 1. An integer is accepted for a float; no
number may be infinite or NaN. The wording is for messages and generated profiles. Knows pydantic's
fields and TOML's kinds of value, not particular keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from sf_tui.printable import cut
from sf_tui.profile.names import DATA_FIELDS, NAME_PATTERN, PROFILE_NAME_PATTERN, is_key_name
from sf_tui.vocabulary.metrics import METRICS
from sf_tui.vocabulary.ops import MAX_STEPS, OPS
from sf_tui.vocabulary.strategies import (
    MAX_COUNT,
    MAX_ROWS,
    Count,
    CountOrZero,
    Factor,
    NotNegative,
    Number,
    Part,
    Positive,
    RowCount,
    Share,
    Wanted,
    finite,
)

__all__ = [
    "MAX_COUNT",
    "MAX_ROWS",
    "Count",
    "CountOrZero",
    "Factor",
    "NotNegative",
    "Number",
    "Part",
    "Positive",
    "RowCount",
    "Share",
    "Wanted",
]

MAX_SEED = 2**32 - 1
MAX_NESTING = 32

# Upper bounds: far above any sensible value, and below what a machine can bear as the size of a
# list, a batch or a thread pool. Larger numbers are typos.
MAX_THREADS = 1024
MAX_EPOCHS = 10**6


@dataclass(frozen=True)
class RegisteredName:
    """Annotation of a field that takes one of the names registered when the profile is loaded."""

    names: Callable[[], Collection[str]]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Check a name against the registry at validation time."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self,
        schema: core_schema.CoreSchema,
        handler: GetJsonSchemaHandler,
    ) -> dict[str, Any]:
        """Return the currently registered names as an enum."""
        return {"type": "string", "enum": list(self.names())}

    def _check(self, name: str) -> str:
        if name not in self.names():
            raise ValueError("not registered")
        return name


def _pair(value: object) -> object:
    # TOML only has lists, which a strict tuple field would refuse.
    return tuple(value) if isinstance(value, list) else value


def _held_out(value: object) -> object:
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_COUNT:
        return value
    if isinstance(value, float) and 0 < value < 1:
        return value
    raise ValueError("neither a share nor a number of rows nor a file")


def _plain(value: object, depth: int = 0) -> object:
    if depth > MAX_NESTING:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        for inner in value.values():
            _plain(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _plain(inner, depth + 1)
    elif not isinstance(value, str | int | float) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise ValueError("not plain")
    return value


def _key(value: object) -> object:
    if value is None or value == "":
        return None
    if isinstance(value, str) and is_key_name(value):
        return value
    raise ValueError("not a key")


def _data_field(name: str) -> str:
    if name not in DATA_FIELDS:
        raise ValueError("no field of a known schema")
    return name


Kept = Annotated[
    float, BeforeValidator(finite), Field(ge=0, lt=1), Wanted("a share from 0 up to but not 1")
]
StepCount = Annotated[
    int, Field(ge=1, le=MAX_STEPS), Wanted("a whole number of at least 1", MAX_STEPS)
]
StepCountOrZero = Annotated[
    int, Field(ge=0, le=MAX_STEPS), Wanted("a whole number of at least 0", MAX_STEPS)
]
ThreadCount = Annotated[
    int, Field(ge=1, le=MAX_THREADS), Wanted("a whole number of at least 1", MAX_THREADS)
]
Epochs = Annotated[
    float,
    BeforeValidator(finite),
    Field(gt=0, le=MAX_EPOCHS),
    Wanted("a number above 0", MAX_EPOCHS),
]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), Wanted(f"a whole number from 0 to {MAX_SEED}")]
Line = Annotated[
    str, Field(pattern=r"^[^\x00-\x1f\x7f]+$"), Wanted("text on one line that is not empty")
]
Name = Annotated[
    str,
    Field(pattern=NAME_PATTERN),
    Wanted(
        "a name of up to 64 small letters, digits, '-' and '_' that starts with a letter or digit"
    ),
]
ProfileName = Annotated[
    str,
    Field(pattern=PROFILE_NAME_PATTERN),
    Wanted("a name of letters, digits, '.', '-' and '_' (it becomes part of the run's id)"),
]
Beta = Annotated[float, BeforeValidator(finite), Field(ge=0, lt=1)]
Betas = Annotated[
    tuple[Beta, Beta],
    BeforeValidator(_pair),
    Wanted("two numbers from 0 up to but not 1, like [0.9, 0.95]"),
]
HeldOut = Annotated[
    float | int | str | None,
    BeforeValidator(_held_out),
    Wanted("a share between 0 and 1, a number of rows, or a file", MAX_COUNT),
]
KeyName = Annotated[
    str | None,
    BeforeValidator(_key),
    Wanted('a letter, a digit, "space", "f1" to "f12" or an arrow ("up", "down", …)'),
]
PlainTable = Annotated[
    dict[str, Any],
    BeforeValidator(_plain),
    Wanted("a table of texts, numbers, true or false, lists and tables"),
]
FieldNames = Annotated[
    dict[Annotated[str, AfterValidator(_data_field)], str],
    Wanted('a table like {prompt = "question", completion = "answer"}'),
]
OpName = Annotated[str, RegisteredName(lambda: OPS)]


def _task_metrics() -> list[str]:
    own = [metric.name for metric in METRICS.values() if not metric.needs_start_answers]
    return ["auto", *own]


TaskMetric = Annotated[str, RegisteredName(_task_metrics)]


LONGEST_VALUE = 60
BARE_KEY = re.compile(r"^[A-Za-z0-9_-]+\Z")


def kind_of(value: object) -> str:
    """Return the name of a TOML value's kind."""
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
    """Return a value as TOML on one line, cut to a maximum length."""
    return cut(_toml(value), longest)


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
    """Join names with commas and a final "and"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def wanted_text(field: FieldInfo, value: object = None) -> str:
    """Return a description of what a field takes, given a value that it refused."""
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
    """Return the allowed values of a field with a fixed list of names, else an empty list."""
    for note in field.metadata:
        if isinstance(note, RegisteredName):
            return list(note.names())
    return choices(field.annotation)


def choices(annotation: Any) -> list[str]:
    """Return the allowed values of an annotation with a fixed list, else an empty list."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [value for part in get_args(annotation) for value in choices(part)]
    return []


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """Return the table model inside an annotation like `Model | None` or `list[Model]`, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        found = inner_model(part)
        if found is not None:
            return found
    return None
