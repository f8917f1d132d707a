"""The types of a table's values: what is accepted, and how the wanted value is described.

Types are strict: "5" is never 5, 1.0 never 1, true never 1; a whole number is accepted where a
float is wanted, and no number may be infinite or NaN. Knows nothing of the keys that use them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

# Upper bounds: far above what anybody means, and below what a list, a batch or a thread pool of
# that size does to a machine. Larger numbers are typing mistakes.
MAX_COUNT = 10**9
MAX_ROWS = 10**6


class StrictTable(BaseModel):
    """A table that accepts no unknown key and no value of another type."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Wanted:
    """What a key's value has to be, in words; part of the annotation of its type."""

    text: str
    most: int | None = None
    """The largest number that is accepted; named where a number is beyond it."""

    def given(self, value: object) -> str:
        """Return what is wanted, for a message about this value."""
        beyond = isinstance(value, int | float) and self.most is not None and value > self.most
        return f"at most {self.most:,}" if beyond else self.text


def finite(value: object) -> object:
    """Return a number as it is, a whole one as a float; ValueError for one beyond floats."""
    # pydantic's strict float lets a whole number too large for a float through as it is.
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError("not finite") from error
    return value


Number = Annotated[float, BeforeValidator(finite), Wanted("a number")]
NotNegative = Annotated[
    float, BeforeValidator(finite), Field(ge=0), Wanted("a number of at least 0")
]
Positive = Annotated[float, BeforeValidator(finite), Field(gt=0), Wanted("a number above 0")]
Share = Annotated[float, BeforeValidator(finite), Field(ge=0, le=1), Wanted("a share from 0 to 1")]
Part = Annotated[
    float, BeforeValidator(finite), Field(gt=0, lt=1), Wanted("a share between 0 and 1")
]
Factor = Annotated[
    float, BeforeValidator(finite), Field(gt=0, le=1), Wanted("a number above 0 and up to 1")
]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT), Wanted("a whole number of at least 1", MAX_COUNT)]
CountOrZero = Annotated[
    int, Field(ge=0, le=MAX_COUNT), Wanted("a whole number of at least 0", MAX_COUNT)
]
RowCount = Annotated[
    int, Field(ge=1, le=MAX_ROWS), Wanted("a whole number of at least 1", MAX_ROWS)
]
