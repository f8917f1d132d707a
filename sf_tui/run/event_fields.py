"""The fields of every event: names, types and units, one declaration for each event type.

Readers rely on these declarations: an event of a known type that breaks its declaration is a
damaged line and is left out. Unknown types and unknown fields pass, because a newer version may
write them. Nothing here knows files or what the events mean together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

LARGEST_COUNT = 2**53
"""Largest whole number that every JSON reader takes exactly."""

Problem = str | None
"""What is wrong with a value, or None."""


@dataclass(frozen=True)
class Kind:
    """A type of value.

    Attributes:
        wanted: the type in words, for messages.
        types: the Python types that `orjson` may give for it.
        look_inside: returns what is wrong with a value of these types; None where the type is all.
    """

    wanted: str
    types: frozenset[type]
    look_inside: Callable[[Any], Problem] | None = None

    def problem(self, value: Any) -> Problem:
        """Return what is wrong with a value."""
        if type(value) not in self.types:
            return f"is {_spell(value)}, not {self.wanted}"
        return None if self.look_inside is None else self.look_inside(value)


@dataclass(frozen=True)
class Field:
    """One field of an event."""

    name: str
    kind: Kind
    required: bool = False
    unit: str = ""


def _spell(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(value)) or f"the number {value!r:.40}"


def _count_problem(value: int) -> Problem:
    return None if 0 <= value <= LARGEST_COUNT else f"is {value}, not a count"


TEXT = Kind("a text", frozenset({str}))
FLAG = Kind("a boolean", frozenset({bool}))
COUNT = Kind("a count", frozenset({int}), _count_problem)
INTEGER = Kind("a whole number", frozenset({int}))
NUMBER = Kind("a number", frozenset({int, float}))
"""Finite: JSON has no other numbers, and `orjson` refuses those that overflow."""
MAP = Kind("an object", frozenset({dict}))


def nullable(kind: Kind) -> Kind:
    """Return the kind that is also null where the value isn't known."""
    inner = kind.look_inside

    def look_inside(value: Any) -> Problem:
        return None if value is None or inner is None else inner(value)

    return Kind(
        f"{kind.wanted} or null",
        kind.types | {type(None)},
        None if inner is None else look_inside,
    )


def list_of(kind: Kind) -> Kind:
    """Return the kind of a list whose items are all of one kind."""

    def look_inside(values: list[Any]) -> Problem:
        for place, value in enumerate(values):
            if type(value) not in types or (inner is not None and inner(value) is not None):
                return f"[{place}] {kind.problem(value)}"
        return None

    types, inner = kind.types, kind.look_inside

    return Kind(f"a list, each item {kind.wanted}", frozenset({list}), look_inside)


def map_of(kind: Kind) -> Kind:
    """Return the kind of an object whose values are all of one kind."""

    def look_inside(values: dict[str, Any]) -> Problem:
        for name, value in values.items():
            if type(value) not in types or (inner is not None and inner(value) is not None):
                return f"['{name:.40}'] {kind.problem(value)}"
        return None

    types, inner = kind.types, kind.look_inside

    return Kind(f"an object, each value {kind.wanted}", frozenset({dict}), look_inside)


def record(*fields: Field) -> Kind:
    """Return the kind of an object with fields of its own; others are passed over."""

    def look_inside(value: dict[str, Any]) -> Problem:
        return fields_problem(fields, value)

    return Kind("an object", frozenset({dict}), look_inside)


def fields_problem(fields: tuple[Field, ...], value: dict[str, Any]) -> Problem:
    """Return what is wrong with the first field that breaks its declaration."""
    for field in fields:
        if field.name not in value:
            if field.required:
                return f"`{field.name}` is missing"
        elif wrong := field.kind.problem(value[field.name]):
            return f"`{field.name}` {wrong}"
    return None


def _must(name: str, kind: Kind, unit: str = "") -> Field:
    return Field(name, kind, required=True, unit=unit)


_AT_STEP = (_must("stage", TEXT), _must("step", COUNT, "optimizer steps"))


MAYBE_TEXT, MAYBE_COUNT, MAYBE_NUMBER = nullable(TEXT), nullable(COUNT), nullable(NUMBER)
TEXTS = list_of(TEXT)
INTERVAL = nullable(list_of(MAYBE_NUMBER))
MEASURES = map_of(map_of(MAYBE_NUMBER))
"""Task to measure to value: shares, `nll` in nats a token, `n` in examples."""
ANCHOR = nullable(record(Field("strength", MAYBE_NUMBER), Field("rows", MAYBE_COUNT)))
PLANNED_STAGE = record(
    _must("stage", TEXT), _must("task", TEXT), _must("steps", COUNT, "optimizer steps")
)
LAYER = record(
    _must("name", TEXT), _must("relative_update", MAYBE_NUMBER, "share"), Field("frozen", FLAG)
)
FRAME = record(
    Field("frame", TEXT),
    Field("kind", TEXT),
    Field("example", TEXT),
    Field("likelihood", MAYBE_NUMBER, unit="nats"),
    Field("prompts", COUNT),
)
ARM = record(
    Field("recovered", MAYBE_NUMBER, unit="share"),
    Field("control", MAYBE_NUMBER, unit="share"),
    Field("floor", MAYBE_NUMBER, unit="share"),
    Field("steps", MAYBE_COUNT, unit="optimizer steps"),
    Field("seconds", MAYBE_NUMBER, unit="s"),
    Field("tokens", MAYBE_NUMBER),
    Field("learning_rate", MAYBE_NUMBER),
    Field("skipped", TEXT),
)

EVERY_EVENT = (_must("seq", INTEGER), _must("type", TEXT), Field("time", TEXT, unit="RFC 3339"))
"""What the log itself adds to each event."""

EVENTS: dict[str, tuple[Field, ...]] = {
    "run_started": (
        _must("tasks", TEXTS),
        Field("run", TEXT),
        Field("profile", TEXT),
        Field("model", record(Field("parameters", COUNT), Field("layers", COUNT))),
        Field("metrics", map_of(TEXT)),
        Field("watched", TEXTS),
        Field("guess_floor", MEASURES),
        Field("stages", list_of(PLANNED_STAGE)),
        Field("device", TEXT),
        Field("precision", TEXT),
        Field("seed", INTEGER),
        Field("threads", COUNT),
    ),
    "stage_started": (
        _must("stage", TEXT),
        _must("task", TEXT),
        _must("steps", COUNT, "optimizer steps"),
        Field("strategy", TEXT),
        Field("known", TEXTS),
        Field("frozen", TEXTS),
        Field("anchor", ANCHOR),
    ),
    "stage_finished": (_must("stage", TEXT), Field("steps", COUNT, unit="optimizer steps")),
    "step": (
        *_AT_STEP,
        Field("loss", MAYBE_NUMBER, unit="nats a token"),
        Field("lr", MAYBE_NUMBER),
        Field("grad_norm", MAYBE_NUMBER),
        Field("tokens_per_second", MAYBE_NUMBER),
        Field("anchor_loss", MAYBE_NUMBER, unit="nats a token"),
    ),
    "probe": (
        *_AT_STEP,
        _must("accuracy", MEASURES),
        Field("full", FLAG),
        Field("paired", MEASURES),
        Field("drop", MAYBE_NUMBER, unit="share, or nats a token"),
    ),
    "drift": (
        *_AT_STEP,
        _must("layers", list_of(LAYER)),
    ),
    "danger": (
        _must("stage", TEXT),
        _must("state", TEXT),
        Field("step", COUNT, unit="optimizer steps"),
        Field("window", COUNT, unit="optimizer steps"),
    ),
    "tasks_at_risk": (
        _must("stage", TEXT),
        Field("step", COUNT, unit="optimizer steps"),
        Field("groups", list_of(FRAME)),
        Field("prompts", COUNT),
        Field("seconds", NUMBER, unit="s"),
        Field("tokens", COUNT),
    ),
    "alert": (
        _must("level", TEXT),
        _must("code", TEXT),
        _must("message", TEXT),
        Field("stage", MAYBE_TEXT),
        Field("step", MAYBE_COUNT, unit="optimizer steps"),
    ),
    "checkpoint": (
        *_AT_STEP,
        _must("path", TEXT),
        Field("bytes", COUNT),
    ),
    "command": (
        _must("id", TEXT),
        _must("status", TEXT),
        Field("action", TEXT),
        Field("op", MAYBE_TEXT),
        Field("arguments", nullable(MAP)),
        Field("by", TEXT),
        Field("value", MAYBE_NUMBER),
        Field("stage", MAYBE_TEXT),
        Field("step", MAYBE_COUNT, unit="optimizer steps"),
        Field("reason", MAYBE_TEXT),
    ),
    "rewound": (
        *_AT_STEP,
        _must("reason", TEXT),
        Field("lost", COUNT, unit="optimizer steps"),
        Field("checkpoint", MAYBE_TEXT),
    ),
    "diagnosis": (
        _must("verdict", TEXT),
        _must("task", TEXT),
        _must("now", MAYBE_NUMBER, "share"),
        Field("stage", MAYBE_TEXT),
        Field("step", MAYBE_COUNT, unit="optimizer steps"),
        Field("closed", nullable(FLAG)),
        Field("controlled", nullable(FLAG)),
        Field("evidence", TEXTS),
        *(
            Field(name, MAYBE_NUMBER, unit="share")
            for name in (
                "start",
                "recovered",
                "spurious_share",
                "real_share",
                "alignment",
                "alignment_loss",
                "knowledge_loss",
            )
        ),
        *(
            Field(name, INTERVAL, unit="share")
            for name in ("now_interval", "recovered_interval", "drop_interval", "interval")
        ),
        Field("examples", MAYBE_COUNT),
        Field("held_out", MAYBE_COUNT, unit="examples"),
        Field("arm", MAYBE_TEXT),
        Field("arms", nullable(map_of(ARM))),
        Field("cost", nullable(MAP)),
        Field("steps", MAYBE_COUNT, unit="optimizer steps"),
        Field("seconds", MAYBE_NUMBER, unit="s"),
        Field("tokens", MAYBE_NUMBER),
    ),
    "run_finished": (
        _must("status", TEXT),
        _must("exit_code", COUNT),
        Field("accuracy", nullable(MEASURES)),
        Field("reason", MAYBE_TEXT),
    ),
    "lines_lost": (
        _must("until", COUNT, "the last seq that was lost"),
        _must("level", TEXT),
        _must("message", TEXT),
    ),
}

_PATTERNS_KEPT = 1024


@dataclass(frozen=True)
class _Pattern:
    """Events of one type with the very same fields.

    Attributes:
        values_of: takes an event's values in a fixed order, or raises KeyError.
        types: the types of those values in events that were found right.
        deep: the fields whose values are to be looked at beyond their type.
    """

    values_of: Callable[[dict[str, Any]], tuple[Any, ...]]
    types: set[tuple[type, ...]]
    deep: tuple[tuple[str, Callable[[Any], Problem]], ...]


class EventCheck:
    """Tells what is wrong with an event, quickly: most events of a log have the same fields.

    The types of an event's fields are looked up as a whole among those that were found right
    before; only ranges and nested values are then looked at. That takes a microsecond.
    """

    def __init__(self) -> None:
        self._patterns: dict[tuple[Any, int], _Pattern] = {}

    def problem(self, event: dict[str, Any]) -> Problem:
        """Return what is wrong with an event; None where nothing is."""
        kind = event.get("type")
        if type(kind) is not str:
            return fields_problem(EVERY_EVENT, event)
        # As many fields as the pattern has, and each of the pattern's: there are no others.
        pattern = self._patterns.get((kind, len(event)))
        if pattern is None:
            return self._slow_problem(event)
        try:
            if tuple(map(type, pattern.values_of(event))) not in pattern.types:
                return self._slow_problem(event)
        except KeyError:
            return self._slow_problem(event)
        for name, look_inside in pattern.deep:
            if wrong := look_inside(event[name]):
                return f"{_article(event)}: `{name}` {wrong}"
        return None

    def _slow_problem(self, event: dict[str, Any]) -> Problem:
        if wrong := fields_problem(EVERY_EVENT, event):
            return wrong
        fields = EVERY_EVENT + EVENTS.get(event["type"], ())
        if wrong := fields_problem(fields, event):
            return f"{_article(event)}: {wrong}"
        key = (event["type"], len(event))
        pattern = self._patterns.get(key)
        if pattern is None and len(self._patterns) < _PATTERNS_KEPT:
            pattern = self._patterns[key] = _Pattern(
                itemgetter(*event),
                set(),
                tuple(
                    (field.name, field.kind.look_inside)
                    for field in fields
                    if field.kind.look_inside is not None and field.name in event
                ),
            )
        if pattern is not None and len(pattern.types) < _PATTERNS_KEPT:
            try:
                pattern.types.add(tuple(map(type, pattern.values_of(event))))
            except KeyError:
                # Other fields of the same number: these are checked the slow way.
                return None
        return None


def _article(event: dict[str, Any]) -> str:
    return f"a `{event['type']:.40}` event"
