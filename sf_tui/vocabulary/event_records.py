"""The objects inside events: a planned stage, a layer, an arm, a cost, and their like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from sf_tui.vocabulary.declared import Count, Doc

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
    steps: Annotated[Count | None, Doc("steps it trained", STEPS)] = None
    seconds: Annotated[float | None, Doc("wall time", "s")] = None
    tokens: Annotated[float | None, Doc("tokens it trained on", "tokens")] = None
    learning_rate: Annotated[float | None, Doc("its peak learning rate")] = None
    skipped: Annotated[str, Doc("why it did not run; only then present", sparse=True)] = ""


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
