"""The state of a run, folded from its events one at a time.

All readers (console, `sf show`, headless narration, diagnosis, a resuming worker) use this fold, so
they can't disagree. Unknown event types are ignored. Single `step` events are not kept: a long run
has millions of them. Reads no files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sf_tui.vocabulary.commands import DONE, Command
from sf_tui.vocabulary.declared import AnchorState, Measures, TaskMetrics
from sf_tui.vocabulary.events import (
    Alert,
    CheckpointWritten,
    CommandAnswered,
    Danger,
    DiagnosisMade,
    Drift,
    Event,
    LinesLost,
    Probe,
    Rewound,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    Step,
    TasksAtRisk,
)
from sf_tui.vocabulary.metrics import DEFAULT_METRIC, Metric, metric_named
from sf_tui.vocabulary.ops import ANCHORED, PAUSED, op_named

PROBES_KEPT = 400
"""Newest probes kept of each stage, besides its first one and those in the danger window."""
_AFTER_THE_END = (RunFinished, DiagnosisMade)
"""Events that may follow a run's end without the run being resumed."""


@dataclass(frozen=True)
class DangerWindow:
    """Steps after which a loss is most likely: a stage's first ones, and those after some acts."""

    start: int
    length: int
    cause: str = ""
    """The op that opened it; empty for the one at the stage's start."""

    @property
    def end(self) -> int:
        """First step after it."""
        return self.start + self.length


@dataclass(frozen=True)
class WeightChange:
    """An act between two steps that changed the weights: a repair or an edit.

    Curves break there: the values after it do not continue those before it.
    """

    step: int
    seq: int
    op: str


@dataclass
class StageState:
    """The state of one stage so far."""

    name: str
    task: str
    strategy: str
    steps: int
    known: list[str]
    """Tasks learned before this stage, in profile order."""
    step: int = 0
    probes: list[Probe] = field(default_factory=list)
    """The first probe, those in the danger window, and the newest ones."""
    last_step: Step | None = None
    first_loss: float | None = None
    """Loss of the stage's first step, in nats per token."""
    drift: Drift | None = None
    window: int = 0
    """Length of the danger window at the stage's start; 0 without one."""
    windows: list[DangerWindow] = field(default_factory=list)
    """All danger windows so far, in order of their start."""
    weight_changes: list[WeightChange] = field(default_factory=list)
    finished: bool = False
    anchors: list[tuple[int, AnchorState | None]] = field(default_factory=list)
    """Steps after which the anchor changed, with its state; None: not anchored."""
    at_risk: TasksAtRisk | None = None
    """The newest ranking of tasks at risk."""

    @property
    def danger(self) -> DangerWindow | None:
        """The danger window that the stage is in now; None outside of any."""
        return self.danger_at(self.step)

    def danger_at(self, step: int) -> DangerWindow | None:
        """Return the danger window that the stage is in after a step; None outside of any."""
        inside = [w for w in self.windows if w.start <= step < w.end]
        return inside[-1] if inside else None

    @property
    def in_danger(self) -> bool:
        """Whether the stage is in a danger window."""
        return self.danger is not None

    def open_window(self, window: DangerWindow) -> None:
        """Add a danger window; one that is still open ends where the new one starts."""
        self.windows = [
            DangerWindow(w.start, min(w.length, window.start - w.start), w.cause)
            for w in self.windows
            if w.start < window.start
        ]
        self.windows.append(window)
        if window.start == 0:
            self.window = window.length

    @property
    def anchor(self) -> AnchorState | None:
        """The stage's current anchor; None if it is not anchored."""
        return self.anchors[-1][1] if self.anchors else None

    def anchor_at(self, step: int) -> AnchorState | None:
        """Return the anchor of the stage after a step."""
        return next((anchor for since, anchor in reversed(self.anchors) if since <= step), None)

    @property
    def anchor_loss(self) -> float | None:
        """KL divergence from the start model at the newest step, in nats per token."""
        return None if self.last_step is None else self.last_step.losses.get("anchor")

    def set_anchor(self, step: int, anchor: AnchorState | None) -> None:
        """Record the anchor from a step on; None: not anchored."""
        if anchor != self.anchor:
            self.anchors.append((step, anchor))

    @property
    def frozen(self) -> list[str]:
        """Names of the layers that the newest drift event lists as frozen."""
        return [layer.name for layer in self.drift.layers if layer.frozen] if self.drift else []

    def add_probe(self, probe: Probe) -> None:
        """Add a probe; the number kept is bounded."""
        self.probes.append(probe)
        if len(self.probes) > 2 * PROBES_KEPT:
            kept = [p for p in self.probes[1:-PROBES_KEPT] if p.step <= self.window]
            if len(kept) < PROBES_KEPT:
                self.probes[1:-PROBES_KEPT] = kept
            else:
                del self.probes[1:-PROBES_KEPT]

    def rewind(self, step: int) -> None:
        """Drop everything that a rewind to a step invalidates."""
        self.step = step
        self.finished = self.finished and step >= self.steps
        self.probes = [probe for probe in self.probes if probe.step <= step]
        if self.drift is not None and self.drift.step > step:
            self.drift = None
        if self.last_step is not None and self.last_step.step > step:
            self.last_step = None
        self.anchors = [entry for entry in self.anchors if entry[0] <= step]
        self.windows = [window for window in self.windows if window.start <= step]


class RunState:
    """The state of a run after some of its events.

    Attributes:
        started: the run's plan; None before `run_started`.
        stages: by name, in the order in which they started.
        stage: the current or last one.
        commands: by id.
        diagnosis: the newest one; None if there is none.
        diagnosis_holds: whether only steps have changed the weights since the diagnosis.
        finished: how the run ended; None while it runs.
    """

    def __init__(self) -> None:
        self.started: RunStarted | None = None
        self.stages: dict[str, StageState] = {}
        self.stage: StageState | None = None
        self.commands: dict[str, Command] = {}
        self.alerts: list[Alert | LinesLost] = []
        self.checkpoints: list[CheckpointWritten] = []
        self.rewinds: list[Rewound] = []
        self.diagnosis: DiagnosisMade | None = None
        self.diagnosis_holds = False
        self.finished: RunFinished | None = None
        self.paused = False
        self.last_seq = 0
        self.last_time = ""

    @property
    def run(self) -> str:
        """The run's id; empty before the run has started."""
        return self.started.run if self.started else ""

    @property
    def profile(self) -> str:
        """The profile's name; empty before the run has started."""
        return self.started.profile if self.started else ""

    @property
    def tasks(self) -> list[str]:
        """All tasks in profile order; empty before the run has started."""
        return list(self.started.tasks) if self.started else []

    @property
    def metrics(self) -> Mapping[str, str]:
        """Each task's metric."""
        return self.started.metrics if self.started else {}

    @property
    def status(self) -> str:
        """One of starting, running, paused, or the status of `run_finished`."""
        if self.finished is not None:
            return self.finished.status
        if self.paused:
            return "paused"
        return "running" if self.started is not None else "starting"

    def watched_of(self, known: list[str]) -> list[str]:
        """Return those of the given tasks that are watched for loss."""
        watched = self.started.watched if self.started else None
        return known if watched is None else [task for task in known if task in watched]

    def metric(self, task: str) -> Metric:
        """Return the metric of a task."""
        return metric_named(self.metric_of(task))

    def metric_of(self, task: str) -> str:
        """Return the name of the metric that is charted for a task."""
        return self.metrics.get(task, DEFAULT_METRIC.name)

    def value_of(self, task: str, metrics: TaskMetrics) -> float | None:
        """Return the value of a task's charted metric in one probe; None if it is missing."""
        found: Measures | None = metrics.get(task)
        return None if found is None else found.get(self.metric_of(task))

    def current_checkpoints(self, stage: str) -> list[CheckpointWritten]:
        """Return the checkpoints of a stage that no rewind abandoned, in order of their step.

        A folder that was written again counts with its newest event. Some may be deleted since:
        the log doesn't tell.
        """
        newest: dict[str, CheckpointWritten] = {}
        for event in self.checkpoints:
            if event.stage == stage:
                newest[event.path] = event
        kept = [
            event
            for event in newest.values()
            if not any(
                rewound.stage == stage and rewound.seq > event.seq and rewound.step < event.step
                for rewound in self.rewinds
            )
        ]
        return sorted(kept, key=lambda event: (event.step, event.seq))

    def add(self, event: Event) -> None:
        """Fold one event."""
        if event.seq:
            self.last_seq, self.last_time = event.seq, event.time
        if self.finished is not None and not isinstance(event, _AFTER_THE_END):
            # A stopped or failed run was resumed.
            self.finished = None
        fold_in = _FOLDS.get(type(event))
        if fold_in is not None:
            fold_in(self, event)

    def _on_run_started(self, event: RunStarted) -> None:
        self.started = event

    def _on_stage_started(self, event: StageStarted) -> None:
        self._forget_after(event.stage)
        self.stages.pop(event.stage, None)
        self.stage = self.stages[event.stage] = StageState(
            event.stage, event.task, event.strategy, event.steps, list(event.known)
        )
        if event.anchor is not None:
            self.stage.set_anchor(0, event.anchor)
        if self.diagnosis is None or self.diagnosis.stage != event.stage:
            self.diagnosis_holds = False

    def _forget_after(self, stage: str) -> None:
        """Drop the stages after this one: a run that goes back plays them again."""
        names = list(self.stages)
        if stage in self.stages:
            for name in names[names.index(stage) + 1 :]:
                del self.stages[name]

    def _on_stage_finished(self, event: StageFinished) -> None:
        if event.stage in self.stages:
            self.stages[event.stage].finished = True

    def _on_step(self, event: Step) -> None:
        stage = self.stages.get(event.stage)
        if stage is None:
            return
        stage.step = event.step
        stage.last_step = event
        if event.step == 1:
            stage.first_loss = event.loss
        # Only the step itself shows whether it was anchored after a rollback or a resume.
        if "anchor" not in event.losses:
            if stage.anchors:
                stage.set_anchor(event.step - 1, None)
        elif stage.anchor is None:
            known = [anchor for _, anchor in stage.anchors if anchor is not None]
            stage.set_anchor(event.step - 1, known[-1] if known else AnchorState())

    def _on_tasks_at_risk(self, event: TasksAtRisk) -> None:
        if event.stage in self.stages:
            self.stages[event.stage].at_risk = event

    def _on_diagnosis(self, event: DiagnosisMade) -> None:
        self.diagnosis = event
        self.diagnosis_holds = True

    def _on_probe(self, event: Probe) -> None:
        if event.stage in self.stages:
            self.stages[event.stage].add_probe(event)

    def _on_drift(self, event: Drift) -> None:
        if event.stage in self.stages:
            self.stages[event.stage].drift = event

    def _on_danger(self, event: Danger) -> None:
        stage = self.stages.get(event.stage)
        if stage is not None and event.state == "entered" and event.window:
            stage.open_window(DangerWindow(event.step, event.window, event.cause))

    def _on_alert(self, event: Alert | LinesLost) -> None:
        self.alerts.append(event)

    def _on_checkpoint(self, event: CheckpointWritten) -> None:
        self.checkpoints.append(event)

    def _on_command(self, event: CommandAnswered) -> None:
        known = self.commands.get(event.id)
        if known is None:
            command = Command.from_event(event)
        else:
            # A new object: the earlier one may be queued to be applied again.
            command = replace(known)
            command.update(event)
        self.commands[event.id] = command
        if command.status == DONE:
            self._on_done(command)

    def _on_done(self, command: Command) -> None:
        op, stage = op_named(command.op), self.stages.get(command.stage or "")
        if PAUSED in (op.turns_on, op.turns_off):
            self.paused = op.turns_on == PAUSED
        elif op.changes_weights:
            # An earlier verdict describes other weights.
            self.diagnosis_holds = False
            if stage is not None:
                change = WeightChange(command.step or 0, self.last_seq, command.op)
                stage.weight_changes.append(change)
        elif ANCHORED in (op.turns_on, op.turns_off) and stage is not None:
            strength, rows = command.arguments.get("strength"), command.arguments.get("rows")
            anchor = AnchorState(strength, rows) if op.turns_on == ANCHORED else None
            stage.set_anchor(command.step or 0, anchor)

    def _on_rewound(self, event: Rewound) -> None:
        self.rewinds.append(event)
        if event.reason == "resumed":
            # A new worker starts unpaused; one that rolls back while paused stays paused.
            self.paused = False
        stage = self.stages.get(event.stage)
        if stage is None:
            return
        stage.rewind(event.step)
        if event.reason != "resumed":
            # A resume applies them again; a rollback undoes them.
            stage.weight_changes = [c for c in stage.weight_changes if c.step <= event.step]
        self._forget_after(event.stage)
        diagnosis = self.diagnosis
        if diagnosis is None or diagnosis.stage != stage.name or (diagnosis.step or 0) > event.step:
            self.diagnosis_holds = False
        self.stage = stage

    def _on_run_finished(self, event: RunFinished) -> None:
        self.finished = event
        self.paused = False


_FOLDS: dict[type[Event], Callable[[RunState, Any], None]] = {
    RunStarted: RunState._on_run_started,
    StageStarted: RunState._on_stage_started,
    StageFinished: RunState._on_stage_finished,
    Step: RunState._on_step,
    Probe: RunState._on_probe,
    Drift: RunState._on_drift,
    Danger: RunState._on_danger,
    TasksAtRisk: RunState._on_tasks_at_risk,
    Alert: RunState._on_alert,
    LinesLost: RunState._on_alert,
    CheckpointWritten: RunState._on_checkpoint,
    CommandAnswered: RunState._on_command,
    Rewound: RunState._on_rewound,
    DiagnosisMade: RunState._on_diagnosis,
    RunFinished: RunState._on_run_finished,
}


def fold(events: Iterable[Event]) -> RunState:
    """Return the state after a sequence of events; `read_state` also reports damage."""
    state = RunState()
    for event in events:
        state.add(event)
    return state
