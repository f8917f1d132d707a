"""The types of a profile's values: what is taken, and how a wanted value is told in words.

Types are strict: "5" is never 5, 1.0 never 1, true never 1; a whole number is taken where a float
is wanted, and no number may be infinite or NaN. Knows nothing of the keys that use them.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from sf_tui.profile.names import DATA_FIELDS, NAME_PATTERN, PROFILE_NAME_PATTERN, is_key_name
from sf_tui.vocabulary.settings import (
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

# Upper bounds: far above what anybody means, and below what a list, a batch or a thread pool of
# that size does to a machine. Larger numbers are typing mistakes.
MAX_STEPS = 10**8
MAX_THREADS = 1024
MAX_EPOCHS = 10**6


def _pair(value: object) -> object:
    # TOML knows only lists; a strict tuple field would refuse them.
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
ExampleCount = Annotated[
    int,
    Field(ge=0, le=MAX_COUNT),
    Wanted("a whole number of at least 0 (of at least 1 for op diagnose)", MAX_COUNT),
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
