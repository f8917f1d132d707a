"""Every event of a run's log: one dataclass each, with its fields, units, and fate on a rewind.

Writers construct these classes and readers receive them; the log adds `seq` and `time`. The
reference page is generated from them. Nothing here reads files or combines events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from sf_tui.vocabulary.answer_events import AnswersWritten, QuestionAnswered
from sf_tui.vocabulary.declared import (
    NATS,
    STEPS,
    AnchorState,
    AnswerRecord,
    Count,
    Doc,
    LayerDrift,
    ModelFacts,
    PlannedStage,
    RiskGroupRecord,
    TaskMetrics,
)
from sf_tui.vocabulary.diagnosis_event import DiagnosisMade
from sf_tui.vocabulary.event import Event, OnRewind, UnknownEvent, event_object, own_fields
from sf_tui.vocabulary.operation_events import OperationProgress, OperationTimes

__all__ = [
    "ASIDE",
    "EVENTS",
    "Alert",
    "AnswersWritten",
    "CheckpointWritten",
    "CommandAnswered",
    "Danger",
    "DiagnosisMade",
    "Drift",
    "Event",
    "LinesLost",
    "OnRewind",
    "OperationProgress",
    "OperationTimes",
    "Probe",
    "QuestionAnswered",
    "Rewound",
    "RunFinished",
    "RunStarted",
    "StageFinished",
    "StageStarted",
    "Step",
    "TasksAtRisk",
    "UnknownEvent",
    "event_object",
    "own_fields",
]

ASIDE = "~"
"""Followed by a number, ends the folder name of a checkpoint that was put aside."""


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """The run's plan, written once before the first step."""

    TYPE: ClassVar[str] = "run_started"

    tasks: Annotated[Sequence[str], Doc("task names in profile order")]
    run: Annotated[str, Doc("run id")] = ""
    profile: Annotated[str, Doc("profile name")] = ""
    model: Annotated[ModelFacts, Doc("the model")] = field(default_factory=ModelFacts)
    metrics: Annotated[Mapping[str, str], Doc("task to its metric")] = field(default_factory=dict)
    watched: Annotated[Sequence[str] | None, Doc("tasks whose loss counts")] = None
    guess_floor: Annotated[TaskMetrics, Doc("score of the best constant answer")] = field(
        default_factory=dict
    )
    stages: Annotated[Sequence[PlannedStage], Doc("the stages to come")] = ()
    seed: Annotated[int, Doc("the profile's seed")] = 0
    device: Annotated[str, Doc("torch device")] = ""
    precision: Annotated[str, Doc("compute precision")] = ""
    threads: Annotated[Count, Doc("CPU threads of torch")] = 0


@dataclass(frozen=True, slots=True)
class StageStarted(Event):
    """A stage begins."""

    TYPE: ClassVar[str] = "stage_started"

    stage: Annotated[str, Doc("stage name")]
    task: Annotated[str, Doc("task it trains")]
    steps: Annotated[Count, Doc("its length", STEPS)]
    strategy: Annotated[str, Doc("how it is trained")] = ""
    known: Annotated[Sequence[str], Doc("tasks learned before it, in profile order")] = ()
    frozen: Annotated[Sequence[str], Doc("layers frozen at its start")] = ()
    anchor: Annotated[AnchorState | None, Doc("how it is anchored; null: not at all")] = None
    probe_every: Annotated[
        Count, Doc("probes outside a danger window: a multiple of the profile's interval", STEPS)
    ] = 0
    probe_every_in_window: Annotated[Count, Doc("the same inside one", STEPS)] = 0
    rows: Annotated[Count, Doc("training rows of its task; 0: unknown", "rows")] = 0
    rows_per_step: Annotated[Count, Doc("rows of its task in each step", "rows")] = 0
    tokens_per_row: Annotated[float, Doc("mean length of such a row", "tokens")] = 0.0
    refused: Annotated[Mapping[str, str], Doc("op to why the host can't do it", "", True)] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class StageFinished(Event):
    """A stage has done its last step."""

    TYPE: ClassVar[str] = "stage_finished"

    stage: Annotated[str, Doc("stage name")]
    task: Annotated[str, Doc("task it trained")] = ""
    strategy: Annotated[str, Doc("how it was trained")] = ""
    steps: Annotated[Count, Doc("its length", STEPS)] = 0


@dataclass(frozen=True, slots=True)
class Step(Event):
    """One optimizer step."""

    TYPE: ClassVar[str] = "step"
    ON_REWIND: ClassVar[OnRewind] = OnRewind.VOID

    stage: Annotated[str, Doc("stage name")]
    step: Annotated[Count, Doc("steps done in the stage, this one included", STEPS)]
    loss: Annotated[float | None, Doc("mean loss over the batch's answer tokens", NATS)] = None
    learning_rate: Annotated[float | None, Doc("rate of this step")] = None
    grad_norm: Annotated[float | None, Doc("gradient norm before clipping")] = None
    tokens_per_second: Annotated[float | None, Doc("training speed", "tokens/s")] = None
    losses: Annotated[
        Mapping[str, float | None],
        Doc("further losses by name, unweighted, such as `anchor`", NATS, True),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe(Event):
    """One measurement of every task on held-out examples."""

    TYPE: ClassVar[str] = "probe"
    ON_REWIND: ClassVar[OnRewind] = OnRewind.VOID

    stage: Annotated[str, Doc("stage name")]
    step: Annotated[Count, Doc("steps done in the stage", STEPS)]
    metrics: Annotated[
        TaskMetrics,
        Doc(
            "task to metric to value; `n` is in examples, and `kl` is there for answers of the "
            "start model only"
        ),
    ]
    full: Annotated[bool, Doc("whether whole held-out splits were scored")] = False
    drop: Annotated[
        float | None, Doc("largest drop of a watched task since the stage began", "its metric's")
    ] = None
    subset: Annotated[
        TaskMetrics,
        Doc("a full probe's metrics on the examples of the other probes", "", True),
    ] = field(default_factory=dict)
    flips: Annotated[
        Mapping[str, Sequence[int]],
        Doc(
            "task to two counts: examples right at the stage's start and wrong now, and the "
            "reverse; of the examples behind `metrics`",
            "examples",
            True,
        ),
    ] = field(default_factory=dict)

    @property
    def comparable(self) -> TaskMetrics:
        """The metrics on the examples that every probe of the stage scores."""
        return {**self.metrics, **self.subset} if self.subset else self.metrics


@dataclass(frozen=True, slots=True)
class Drift(Event):
    """How far every layer has moved since its stage began; also written after a freeze."""

    TYPE: ClassVar[str] = "drift"
    ON_REWIND: ClassVar[OnRewind] = OnRewind.VOID

    stage: Annotated[str, Doc("stage name")]
    step: Annotated[Count, Doc("steps done in the stage", STEPS)]
    layers: Annotated[Sequence[LayerDrift], Doc("every layer, bottom to top")]


@dataclass(frozen=True, slots=True)
class Danger(Event):
    """A danger window was entered or left; some actions open another one."""

    TYPE: ClassVar[str] = "danger"
    ON_REWIND: ClassVar[OnRewind] = OnRewind.REPEATABLE

    stage: Annotated[str, Doc("stage name")]
    state: Annotated[str, Doc("`entered` or `left`")]
    step: Annotated[Count, Doc("steps done in the stage", STEPS)] = 0
    window: Annotated[Count, Doc("length of the window", STEPS)] = 0
    cause: Annotated[
        str, Doc("op that opened it, such as `recover`; absent at a stage's start", "", True)
    ] = ""


@dataclass(frozen=True, slots=True)
class TasksAtRisk(Event):
    """The tasks nearest to the new one, as the start model ranks them; once, at step 0."""

    TYPE: ClassVar[str] = "tasks_at_risk"

    stage: Annotated[str, Doc("stage name")]
    step: Annotated[Count, Doc("steps done in the stage", STEPS)] = 0
    groups: Annotated[Sequence[RiskGroupRecord], Doc("nearest first")] = ()
    prompts: Annotated[Count, Doc("prompts that were changed and scored")] = 0
    seconds: Annotated[float, Doc("wall time", "s")] = 0
    tokens: Annotated[Count, Doc("tokens forwarded", "tokens")] = 0


@dataclass(frozen=True, slots=True)
class Alert(Event):
    """A note or a warning for the operator."""

    TYPE: ClassVar[str] = "alert"
    ON_REWIND: ClassVar[OnRewind] = OnRewind.REPEATABLE
    NAN: ClassVar[str] = "nan"
    """The code of the alert that a loss was not finite."""

    level: Annotated[str, Doc("`info`, `warn` or `error`")]
    code: Annotated[str, Doc("what it is about, such as `drop` or `nan`")]
    message: Annotated[str, Doc("what happened and what to do")]
    stage: Annotated[str | None, Doc("stage name; empty outside a stage")] = ""
    step: Annotated[Count | None, Doc("steps done in the stage", STEPS)] = 0
    task: Annotated[str, Doc("the task that it is about", "", True)] = ""
    answers: Annotated[Sequence[AnswerRecord], Doc("up to three lost answers", "", True)] = ()

    @staticmethod
    def unknown_code(task: str) -> str:
        """Return the code of the alert that a task is not known as it is asked."""
        return f"unknown-{task}"

    @property
    def text(self) -> str:
        """The message with the answers that were lost."""
        return ". ".join([self.message, *(one.spelled() for one in self.answers)])


@dataclass(frozen=True, slots=True)
class CheckpointWritten(Event):
    """A checkpoint is complete on the disk, or was put aside under another name."""

    TYPE: ClassVar[str] = "checkpoint"

    stage: Annotated[str, Doc("stage name")]
    step: Annotated[Count, Doc("steps done in the stage", STEPS)]
    path: Annotated[str, Doc("its folder in the run directory; absolute: one of the host's")]
    bytes: Annotated[Count, Doc("its size", "bytes")] = 0
    metrics: Annotated[TaskMetrics, Doc("its newest probe, as `probe` gives it")] = field(
        default_factory=dict
    )
    probed_at: Annotated[Count | None, Doc("step of that probe", STEPS)] = None

    @property
    def is_aside(self) -> bool:
        """Whether it was abandoned by a rollback, or another one of its step replaced it."""
        return ASIDE in self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class CommandAnswered(Event):
    """A command was accepted, refused, done, failed or cancelled; one event for each change."""

    TYPE: ClassVar[str] = "command"

    id: Annotated[str, Doc("id of the command")]
    status: Annotated[str, Doc("`accepted`, `refused`, `done`, `failed` or `cancelled`")]
    action: Annotated[str, Doc("the profile's action")] = ""
    op: Annotated[str | None, Doc("what the action does; empty if refused")] = ""
    arguments: Annotated[Mapping[str, Any] | None, Doc("the op's arguments")] = None
    by: Annotated[str, Doc("who asked and from where (`ana@gpu7 pts/3`), or the rule's name")] = ""
    by_rule: Annotated[bool, Doc("whether a rule of the profile asked")] = False
    value: Annotated[float | None, Doc("the metric that made the rule fire")] = None
    stage: Annotated[str | None, Doc("stage name")] = None
    step: Annotated[Count | None, Doc("steps done in the stage", STEPS)] = None
    reason: Annotated[str | None, Doc("result, or why it was refused, failed or cancelled")] = None
    changed: Annotated[bool, Doc("false: there was nothing to do", "", True)] = True


@dataclass(frozen=True, slots=True)
class Rewound(Event):
    """The stage continues from an earlier step."""

    TYPE: ClassVar[str] = "rewound"

    stage: Annotated[str, Doc("stage name")]
    step: Annotated[Count, Doc("step it continues from", STEPS)]
    reason: Annotated[str, Doc("`resumed`, `rollback` or `nan`")]
    lost: Annotated[Count, Doc("steps thrown away", STEPS)] = 0
    checkpoint: Annotated[str | None, Doc("name of the checkpoint", "", True)] = None


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """The run has ended; a later `rewound` means that it was resumed."""

    TYPE: ClassVar[str] = "run_finished"

    status: Annotated[str, Doc("`completed`, `guard_failed`, `stopped` or `failed`")]
    exit_code: Annotated[Count, Doc("exit code of the worker")]
    metrics: Annotated[TaskMetrics | None, Doc("the last probe's metrics")] = None
    reason: Annotated[str | None, Doc("why it ended; null for a completed run")] = None


@dataclass(frozen=True, slots=True)
class LinesLost(Event):
    """A repair of the log marks the events that a damaged log lost."""

    TYPE: ClassVar[str] = "lines_lost"

    until: Annotated[Count, Doc("the last `seq` that was lost")]
    level: Annotated[str, Doc("`warn`")]
    message: Annotated[str, Doc("what was lost and what follows from it")]

    @property
    def text(self) -> str:
        """The message, as an alert has it."""
        return self.message


EVENTS: Mapping[str, type[Event]] = {
    cls.TYPE: cls
    for cls in (
        RunStarted,
        StageStarted,
        StageFinished,
        Step,
        Probe,
        Drift,
        Danger,
        TasksAtRisk,
        Alert,
        CheckpointWritten,
        CommandAnswered,
        OperationTimes,
        OperationProgress,
        Rewound,
        DiagnosisMade,
        AnswersWritten,
        QuestionAnswered,
        RunFinished,
        LinesLost,
    )
}
"""Every event class by the `type` of its lines."""
