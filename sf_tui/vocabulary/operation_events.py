"""The events about operations: commands that take a while, between two steps or beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from sf_tui.vocabulary.declared import STEPS, Count, Doc
from sf_tui.vocabulary.event import Event


@dataclass(frozen=True, slots=True)
class OperationTimes(Event):
    """How long training would wait for each operation; once a stage's speed is known."""

    TYPE: ClassVar[str] = "operation_times"

    stage: Annotated[str, Doc("stage name")]
    step: Annotated[Count, Doc("steps done in the stage", STEPS)] = 0
    seconds: Annotated[Mapping[str, float], Doc("op to its expected wall time", "s")] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class OperationProgress(Event):
    """How far an operation is; the first one comes before it begins."""

    TYPE: ClassVar[str] = "operation"

    id: Annotated[str, Doc("id of its command")]
    op: Annotated[str, Doc("the op")]
    stage: Annotated[str, Doc("stage name")]
    step: Annotated[Count, Doc("steps done in the stage when it began", STEPS)]
    part: Annotated[str, Doc("what it is at, such as the name of an arm; empty at first")] = ""
    number: Annotated[Count, Doc("number of this part, from 1; 0 before the first")] = 0
    parts: Annotated[Count, Doc("number of parts; 0 if unknown")] = 0
    done: Annotated[Count, Doc("steps or prompts done in this part")] = 0
    total: Annotated[Count, Doc("steps or prompts of this part at most; 0 if unknown")] = 0
    unit: Annotated[str, Doc("what `done` counts: `steps` or `prompts`")] = "steps"
    score: Annotated[float | None, Doc("the newest score that chooses its best step")] = None
    elapsed_s: Annotated[float, Doc("wall time so far, pauses of the run left out", "s")] = 0.0
    left_s: Annotated[float | None, Doc("expected wall time left; null if unknown", "s")] = None
    beside: Annotated[bool, Doc("whether training goes on meanwhile", sparse=True)] = False
