"""Parse the JSON object of a log line into its event and check it against the declaration.

Readers rely on the declarations: an event of a known type that violates its own is a damaged line
and is left out. Unknown types and unknown fields pass, because a newer version may write them. Most
events of a log have the same fields, so a pattern that was checked once is looked up, which takes a
microsecond.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, make_dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, cast

from sf_tui.vocabulary.declared import (
    INTEGER,
    TEXT,
    Doc,
    Field,
    Problem,
    build,
    fields_of,
    fields_problem,
)
from sf_tui.vocabulary.events import EVENTS, Event, UnknownEvent

EVERY_EVENT = (
    Field("seq", INTEGER, required=True, doc=Doc("position in the log")),
    Field("type", TEXT, required=True, doc=Doc("which event it is")),
    Field("time", TEXT, doc=Doc("when it was written", "RFC 3339")),
)
"""Fields that the log itself adds to each event."""

_PATTERNS_KEPT = 1024
_ADDED = frozenset({"seq", "time"})
_OF_THE_LOG = frozenset({"seq", "time", "type"})


Maker = Callable[[dict[str, Any], tuple[Any, ...]], Event]
"""Builds an event from its object and the object's values in the pattern's order."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Events of one type with exactly the same fields.

    Attributes:
        values_of: returns an event's values in a fixed order; raises KeyError if one is missing.
        types: the types of those values in valid events.
        deep: the fields whose values need a check beyond their type.
        make: builds the event.
    """

    values_of: Callable[[dict[str, Any]], tuple[Any, ...]]
    types: set[tuple[type, ...]]
    deep: tuple[tuple[str, Callable[[Any], Problem]], ...]
    make: Maker


class EventParser:
    """Checks the objects of log lines and builds their events."""

    def __init__(self) -> None:
        self._patterns: dict[tuple[Any, int], _Pattern] = {}

    def read(self, line: dict[str, Any]) -> Event | str:
        """Return the event of a line's object, or a description of what is wrong with it."""
        # The field count matches and every field of the pattern is present, so there are no others.
        try:
            pattern = self._patterns[line["type"], len(line)]
            values = pattern.values_of(line)
            known = tuple(map(type, values)) in pattern.types
        except (KeyError, TypeError):
            return self._read_slowly(line)
        if not known:
            return self._read_slowly(line)
        for name, look_inside in pattern.deep:
            if wrong := look_inside(line[name]):
                return f"{_article(line)}: `{name}` {wrong}"
        return pattern.make(line, values)

    def _read_slowly(self, line: dict[str, Any]) -> Event | str:
        if wrong := fields_problem(EVERY_EVENT, line):
            return wrong
        cls = EVENTS.get(line["type"])
        fields = EVERY_EVENT + tuple(_own_fields(cls))
        if wrong := fields_problem(fields, line):
            return f"{_article(line)}: {wrong}"
        key = (line["type"], len(line))
        pattern = self._patterns.get(key)
        if pattern is None and len(self._patterns) < _PATTERNS_KEPT:
            pattern = self._patterns[key] = _new_pattern(cls, fields, line)
        if pattern is not None and len(pattern.types) < _PATTERNS_KEPT:
            try:
                pattern.types.add(tuple(map(type, pattern.values_of(line))))
            except KeyError:
                # The same number of fields, but other ones: check them the slow way.
                return _make_slowly(line, ())
        return _make_slowly(line, ())


def _new_pattern(
    cls: type[Event] | None, fields: tuple[Field, ...], line: dict[str, Any]
) -> _Pattern:
    declared = [field.name for field in fields_of(cls) if field.name in line] if cls else []
    order = [*declared, *(name for name in line if name not in {*declared, "type"})]
    return _Pattern(
        itemgetter(*order),
        set(),
        tuple(
            (field.name, field.kind.look_inside)
            for field in fields
            if field.kind.look_inside is not None and field.name in line
        ),
        _make_slowly if cls is None else _maker(cast("Hashable", cls), tuple(declared)),
    )


def _own_fields(cls: type[Event] | None) -> Iterator[Field]:
    if cls is not None:
        yield from (field for field in fields_of(cls) if field.name not in _ADDED)


def _make_slowly(line: dict[str, Any], values: tuple[Any, ...]) -> Event:  # noqa: ARG001
    cls = EVENTS.get(line["type"])
    if cls is not None:
        return build(cls, line)
    unknown = {name: value for name, value in line.items() if name not in _OF_THE_LOG}
    return UnknownEvent(line["type"], unknown, seq=line["seq"], time=line.get("time", ""))


# A maker takes a millisecond to compile. A process that reads many logs, or one log many times,
# compiles each once.
@lru_cache(maxsize=_PATTERNS_KEPT)
def _maker(cls: type[Event], names: tuple[str, ...]) -> Maker:
    """Return a function that builds events with exactly these declared fields.

    A frozen dataclass sets each slot through `object.__setattr__`, which takes 3.6 µs for a step.
    Its twin has the same slots and a plain `__init__`; the object then becomes the frozen class's.

    Args:
        cls: the event's class.
        names: the declared fields that the lines have, in the order of the declaration.
    """
    declared = fields_of(cls)
    present = [field for field in declared if field.name in names]
    if any(field.kind.convert is not None for field in present):
        return _make_slowly
    absent = [field for field in declared if field.name not in names]
    plain: Any = make_dataclass(cls.__name__, [field.name for field in (*present, *absent)])
    rest, count = tuple(field.default for field in absent), len(present)
    twin: Any = type(
        cls.__name__,
        (Event,),
        {
            "__slots__": cls.__slots__,  # type: ignore[attr-defined]
            "__init__": plain.__init__,
            # Both are needed, or CPython looks the method up at each assignment.
            "__setattr__": object.__setattr__,
            "__delattr__": object.__delattr__,
        },
    )

    def make(line: dict[str, Any], values: tuple[Any, ...]) -> Event:
        # `type` is not a value; any further fields come from a newer version.
        event = twin(*(values if len(line) == count + 1 else values[:count]), *rest)
        event.__class__ = cls
        found: Event = event
        return found

    return make


def _article(line: dict[str, Any]) -> str:
    return f"a `{line['type']:.40}` event"
