"""What every event of a run's log has in common, and how one becomes a JSON object.

The events themselves are declared in `sf_tui.vocabulary.events`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, ClassVar

from sf_tui.vocabulary.declared import Doc, as_object


class OnRewind(Enum):
    """What a `rewound` event does to an earlier event of its stage at a later step."""

    VOID = "void: readers drop it"
    REPEATABLE = "stays visible; after a rollback or a NaN it may be written again"
    STAYS = "stays"


@dataclass(frozen=True, slots=True)
class Event:
    """What every event carries; the log fills in `seq` and `time`."""

    TYPE: ClassVar[str] = ""
    ON_REWIND: ClassVar[OnRewind] = OnRewind.STAYS

    seq: Annotated[int, Doc("position in the log, from 1, rising by one")] = field(
        default=0, kw_only=True
    )
    time: Annotated[str, Doc("when it was written, in UTC", "RFC 3339")] = field(
        default="", kw_only=True
    )


@dataclass(frozen=True, slots=True)
class UnknownEvent(Event):
    """An event of a type that this version doesn't know, as a newer one may write it."""

    name: str
    values: Mapping[str, Any]


def event_object(event: Event) -> dict[str, Any]:
    """Return an event as the JSON object of its line: `seq`, `time`, `type`, then its fields."""
    if isinstance(event, UnknownEvent):
        return {"seq": event.seq, "time": event.time, "type": event.name, **event.values}
    return {"seq": event.seq, "time": event.time, "type": event.TYPE, **own_fields(event)}


def own_fields(event: Event) -> dict[str, Any]:
    """Return an event's fields as a JSON object, without what the log adds."""
    found: dict[str, Any] = as_object(event)
    del found["seq"], found["time"]
    return found
