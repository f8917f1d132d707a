"""JSON objects declared as dataclasses: checks, conversion, and documentation from one source.

A frozen dataclass declares the fields of an object. Its annotations give the JSON types, and `Doc`
the description and unit. Problems with values are described in words. Undeclared fields are
ignored, because a newer version may write them. The objects inside events are declared here. Knows
no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from sf_tui.printable import cut

LARGEST_COUNT = 2**53
"""Largest whole number that every JSON reader parses exactly."""

Problem = str | None
"""What is wrong with a value, or None."""

T = TypeVar("T")


@dataclass(frozen=True)
class Doc:
    """The description of a field.

    Attributes:
        text: a phrase or sentence for the reference.
        unit: unit of a number; empty if it has none.
        sparse: whether a field at its default is left out of the JSON.
    """

    text: str
    unit: str = ""
    sparse: bool = False


_COUNT_MARK = object()
Count = Annotated[int, _COUNT_MARK]
"""A whole number from 0 to `LARGEST_COUNT`."""


@dataclass(frozen=True)
class Kind:
    """A type of JSON value.

    Attributes:
        wanted: the type in words, for messages.
        types: the Python types that `orjson` may return for it.
        look_inside: returns the problem with a value of these types; None if the type is enough.
        convert: builds declared objects from nested JSON objects; None if there are none.
    """

    wanted: str
    types: frozenset[type]
    look_inside: Callable[[Any], Problem] | None = None
    convert: Callable[[Any], Any] | None = None

    def problem(self, value: Any) -> Problem:
        """Return the problem with a value, or None."""
        if type(value) not in self.types:
            return f"is {_spell(value)}, not {self.wanted}"
        return None if self.look_inside is None else self.look_inside(value)


@dataclass(frozen=True)
class Field:
    """One field of a JSON object."""

    name: str
    kind: Kind
    required: bool = False
    doc: Doc = Doc("")
    default: Any = None


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
_DECLARED: dict[type, tuple[Field, ...]] = {}
_PLAIN = {str: TEXT, bool: FLAG, int: INTEGER, float: NUMBER}


def nullable(kind: Kind) -> Kind:
    """Return the kind that also accepts null, for unknown values."""
    inner, convert = kind.look_inside, kind.convert

    def look_inside(value: Any) -> Problem:
        return None if value is None or inner is None else inner(value)

    def convert_it(value: Any) -> Any:
        return None if value is None or convert is None else convert(value)

    return Kind(
        f"{kind.wanted} or null",
        kind.types | {type(None)},
        None if inner is None else look_inside,
        None if convert is None else convert_it,
    )


def list_of(kind: Kind) -> Kind:
    """Return the kind of a list whose items are of one kind."""

    def look_inside(values: list[Any]) -> Problem:
        for place, value in enumerate(values):
            if type(value) not in types or (inner is not None and inner(value) is not None):
                return f"[{place}] {kind.problem(value)}"
        return None

    def convert_all(values: list[Any]) -> list[Any]:
        assert convert is not None
        return [convert(value) for value in values]

    types, inner, convert = kind.types, kind.look_inside, kind.convert
    return Kind(
        f"a list, each item {kind.wanted}",
        frozenset({list}),
        look_inside,
        None if convert is None else convert_all,
    )


def map_of(kind: Kind) -> Kind:
    """Return the kind of an object whose values are of one kind."""

    def look_inside(values: dict[str, Any]) -> Problem:
        for name, value in values.items():
            if type(value) not in types or (inner is not None and inner(value) is not None):
                return f"['{name:.40}'] {kind.problem(value)}"
        return None

    def convert_all(values: dict[str, Any]) -> dict[str, Any]:
        assert convert is not None
        return {name: convert(value) for name, value in values.items()}

    types, inner, convert = kind.types, kind.look_inside, kind.convert
    return Kind(
        f"an object, each value {kind.wanted}",
        frozenset({dict}),
        look_inside,
        None if convert is None else convert_all,
    )


def object_of(cls: type) -> Kind:
    """Return the kind of an object that a dataclass declares; other fields are ignored."""

    def look_inside(value: dict[str, Any]) -> Problem:
        return fields_problem(fields_of(cls), value)

    def convert(value: dict[str, Any]) -> Any:
        return build(cls, value)

    return Kind("an object", frozenset({dict}), look_inside, convert)


def fields_problem(declared: Sequence[Field], value: Mapping[str, Any]) -> Problem:
    """Return the problem with the first field that breaks its declaration, or None."""
    for field in declared:
        if field.name not in value:
            if field.required:
                return f"`{field.name}` is missing"
        elif wrong := field.kind.problem(value[field.name]):
            return f"`{field.name}` {wrong}"
    return None


def fields_of(cls: type) -> tuple[Field, ...]:
    """Return the fields that a dataclass declares, in order.

    Raises:
        TypeError: an annotation has no JSON type.
    """
    if cls not in _DECLARED:
        _DECLARED[cls] = tuple(_read_fields(cls))
    return _DECLARED[cls]


def _read_fields(cls: Any) -> Iterator[Field]:
    hints = get_type_hints(cls, include_extras=True)
    for entry in fields(cls):
        hint, doc = hints[entry.name], Doc("")
        if get_origin(hint) is Annotated:
            doc = next((part for part in hint.__metadata__ if isinstance(part, Doc)), doc)
        required = entry.default is MISSING and entry.default_factory is MISSING
        default = None
        if entry.default_factory is not MISSING:
            default = entry.default_factory()
        elif not required:
            default = entry.default
        yield Field(entry.name, kind_of(hint), required, doc, default)


def kind_of(hint: Any) -> Kind:
    """Return the kind of JSON value for an annotation.

    Raises:
        TypeError: there is none.
    """
    origin = get_origin(hint)
    if origin is Annotated:
        return COUNT if _COUNT_MARK in hint.__metadata__ else kind_of(get_args(hint)[0])
    if origin in {Union, UnionType}:
        inner = [part for part in get_args(hint) if part is not NoneType]
        if len(inner) == 1:
            return nullable(kind_of(inner[0]))
    elif origin is Sequence:
        return list_of(kind_of(get_args(hint)[0]))
    elif origin is Mapping:
        value = get_args(hint)[1]
        return MAP if value is Any else map_of(kind_of(value))
    elif hint in _PLAIN:
        return _PLAIN[hint]
    elif isinstance(hint, type) and is_dataclass(hint):
        return object_of(hint)
    raise TypeError(f"{hint!r} stands for no JSON value")


def build(cls: type[T], value: Mapping[str, Any]) -> T:
    """Return the declared object for a JSON object; the caller has checked its fields."""
    return cls(
        **{
            field.name: value[field.name]
            if field.kind.convert is None
            else field.kind.convert(value[field.name])
            for field in fields_of(cls)
            if field.name in value
        }
    )


def as_object(value: Any) -> Any:
    """Return a value with declared objects as plain JSON objects, without sparse defaults."""
    if is_dataclass(value) and not isinstance(value, type):
        return dict(_present(value))
    if isinstance(value, Mapping):
        return {name: as_object(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_object(entry) for entry in value]
    return value


def _present(value: Any) -> Iterator[tuple[str, Any]]:
    for field in fields_of(type(value)):
        entry = getattr(value, field.name)
        if not (field.doc.sparse and entry == field.default):
            yield field.name, as_object(entry)


STEPS = "optimizer steps"
NATS = "nats a token"

Measures = Mapping[str, float | None]
"""Metric name to value, and `n`, the number of examples."""
TaskMetrics = Mapping[str, Measures]
"""Task name to its measures."""
Interval = Sequence[float | None]
"""Lower and upper bound; a null bound is open."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model that a run trains."""

    source: Annotated[str, Doc("[model] source of the profile")] = ""
    parameters: Annotated[Count, Doc("number of parameters")] = 0
    layers: Annotated[Count, Doc("number of decoder blocks")] = 0


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage that the run will play."""

    stage: Annotated[str, Doc("stage name")]
    task: Annotated[str, Doc("task it trains")]
    steps: Annotated[Count, Doc("planned length", STEPS)]


@dataclass(frozen=True, slots=True)
class AnchorState:
    """How a stage is anchored to the start model."""

    strength: Annotated[float | None, Doc("weight of the divergence in the loss")] = None
    rows: Annotated[Count | None, Doc("neighbor prompts in each step")] = None


@dataclass(frozen=True, slots=True)
class LayerDrift:
    """How far one layer has moved since its stage began."""

    name: Annotated[str, Doc("layer name, such as `block-3`")]
    relative_update: Annotated[float | None, Doc("‖W − W₀‖ / ‖W₀‖", "share")]
    frozen: Annotated[bool, Doc("whether it is frozen")] = False


@dataclass(frozen=True, slots=True)
class RiskGroupRecord:
    """Neighbor prompts of one template, as the start model ranks them."""

    frame: Annotated[str, Doc("template with `…` for its slot")] = ""
    kind: Annotated[str, Doc("`other_template` (another task) or `slot` (the new task)")] = ""
    example: Annotated[str, Doc("one of the prompts")] = ""
    likelihood: Annotated[float | None, Doc("log-likelihood of the template", "nats")] = None
    prompts: Annotated[Count, Doc("prompts in the group")] = 0


@dataclass(frozen=True, slots=True)
class ArmRecord:
    """One arm of a recovery test: its figures, or why it did not run."""

    recovered: Annotated[float | None, Doc("old-task score after the arm", "share")] = None
    control: Annotated[float | None, Doc("score on facts never taught", "share")] = None
    floor: Annotated[float | None, Doc("score of the best constant answer", "share")] = None
    allowed: Annotated[bool | None, Doc("false if the arm taught the task")] = None
    steps: Annotated[Count | None, Doc("its best step, whose weights were scored", STEPS)] = None
    steps_taken: Annotated[Count | None, Doc("steps it trained in all", STEPS)] = None
    seconds: Annotated[float | None, Doc("wall time", "s")] = None
    tokens: Annotated[float | None, Doc("tokens it trained on", "tokens")] = None
    learning_rate: Annotated[float | None, Doc("its peak learning rate")] = None
    skipped: Annotated[str, Doc("why it did not run; only then present", sparse=True)] = ""


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """A held-out question that was answered right before and is answered wrong now."""

    question: Annotated[str, Doc("the question; a long one is cut")]
    wanted: Annotated[str, Doc("the right answer; a long one is cut")]
    answered: Annotated[str, Doc("what the model answers now; a long one is cut")]

    def spelled(self, most: int = 60) -> str:
        """Return it as one sentence, each text cut after `most` characters."""
        texts = (self.question, self.answered, self.wanted)
        question, answered, wanted = (cut(" ".join(text.split()), most) for text in texts)
        return f'"{question}" is answered "{answered}", not "{wanted}"'


@dataclass(frozen=True, slots=True)
class CostEntry:
    """What some training takes."""

    tokens: Annotated[float, Doc("tokens trained on", "tokens")] = 0
    seconds: Annotated[float | None, Doc("wall time", "s")] = None
    money: Annotated[float | None, Doc("at [cost] gpu_hour")] = None
    share: Annotated[float | None, Doc("the test's tokens as a share of these", "share")] = None


@dataclass(frozen=True, slots=True)
class DiagnosisCost:
    """What a recovery test took, beside retraining."""

    tokens: Annotated[float, Doc("tokens trained on", "tokens")] = 0
    seconds: Annotated[float | None, Doc("wall time", "s")] = None
    money: Annotated[float | None, Doc("at [cost] gpu_hour")] = None
    tokens_per_second: Annotated[float | None, Doc("training speed of the test")] = None
    old_task: Annotated[CostEntry | None, Doc("retraining the old task")] = None
    recipe: Annotated[CostEntry | None, Doc("retraining all stages")] = None
