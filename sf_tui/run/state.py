"""The state of a run, folded from its events one at a time.

All readers (console, `sf show`, headless narration, diagnosis, a resuming worker) use this fold, so
they can't disagree. Unknown event types are ignored. Single `step` events are not kept: a long run
has millions of them. Reads no files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from sf_tui.run.clock import seconds_since_epoch
from sf_tui.run.stage_state import DangerWindow, StageState, WeightChange
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
    OperationProgress,
    OperationTimes,
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

_AFTER_THE_END = (RunFinished, DiagnosisMade)
"""Events that may follow a run's end without the run being resumed."""


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
        ended_paused: whether the run was paused when it ended or its worker died; a resume trains
            on.
        operation: the progress of the operation for which training waits; None if there is none.
        beside: the progress of the operation beside the training; None if there is none.
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
        self.ended_paused = False
        self.operation: OperationProgress | None = None
        self.beside: OperationProgress | None = None
        self._expected_s: dict[str, float] = {}
        self._took_s: dict[str, float] = {}
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

        A folder that was written again counts with its newest event; those put aside are left out.
        Some may be deleted since: the log doesn't tell (`sf_tui.run.checkpoint_folders` does).
        """
        if stage not in self.stages:
            return []
        kept = [each.event for each in self.stages[stage].saved if each.path == each.event.path]
        return sorted(kept, key=lambda event: (event.step, event.seq))

    def expected_seconds(self, op: str) -> float | None:
        """Return how long training would wait for an operation; None if unknown.

        As long as for the last one of this run, or else as the worker estimates.
        """
        return self._took_s.get(op, self._expected_s.get(op))

    def copy(self) -> RunState:
        """Return a copy that later events do not change."""
        copied = RunState()
        copied.take_over(self)
        return copied

    def take_over(self, other: RunState) -> None:
        """Become a copy of another state."""
        self.started = other.started
        self.stages = {name: stage.copy() for name, stage in other.stages.items()}
        self.stage = self.stages.get(other.stage.name) if other.stage else None
        self.commands = dict(other.commands)
        self.alerts = list(other.alerts)
        self.checkpoints = list(other.checkpoints)
        self.rewinds = list(other.rewinds)
        self.diagnosis, self.diagnosis_holds = other.diagnosis, other.diagnosis_holds
        self.finished, self.paused = other.finished, other.paused
        self.ended_paused = other.ended_paused
        self.operation, self.beside = other.operation, other.beside
        self._expected_s, self._took_s = dict(other._expected_s), dict(other._took_s)
        self.last_seq, self.last_time = other.last_seq, other.last_time

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
        self.stage.refused = event.refused
        self.stage.rows, self.stage.rows_per_step = event.rows, event.rows_per_step
        self.stage.tokens_per_row = event.tokens_per_row
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
                stage.set_anchor(event.step - 1, None, event.seq)
        elif stage.anchor is None:
            known = [each.anchor for each in stage.anchors if each.anchor is not None]
            stage.set_anchor(event.step - 1, known[-1] if known else AnchorState(), event.seq)

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
            stage.open_window(DangerWindow(event.step, event.window, event.cause, event.seq))

    def _on_alert(self, event: Alert | LinesLost) -> None:
        self.alerts.append(event)

    def _on_checkpoint(self, event: CheckpointWritten) -> None:
        self.checkpoints.append(event)
        if event.stage in self.stages:
            self.stages[event.stage].add_checkpoint(event)

    def _on_command(self, event: CommandAnswered) -> None:
        known = self.commands.get(event.id)
        if known is None:
            command = Command.from_event(event)
        else:
            # A new object: the earlier one may be queued to be applied again.
            command = replace(known)
            command.update(event)
        self.commands[event.id] = command
        if not command.is_pending:
            self._end_operation(command, event)
        if command.status == DONE:
            self._on_done(command)

    def _on_operation_times(self, event: OperationTimes) -> None:
        self._expected_s = dict(event.seconds)

    def _on_operation(self, event: OperationProgress) -> None:
        if event.beside:
            self.beside = event
        else:
            self.operation = event

    def _end_operation(self, command: Command, event: CommandAnswered) -> None:
        operation = self.operation
        if self.beside is not None and self.beside.id == command.id:
            self.beside = None
        if operation is None or operation.id != command.id:
            return
        self.operation = None
        begun, ended = seconds_since_epoch(command.accepted), seconds_since_epoch(event.time)
        # One that a kill interrupted was accepted long before.
        if command.status == DONE and begun is not None and ended is not None:
            self._took_s[command.op] = max(ended - begun, 0.0)

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
                if ANCHORED in op.states_on(command.arguments):
                    # With the profile's strength: the op's own is that of the repair.
                    stage.set_anchor(command.step or 0, AnchorState(), self.last_seq)
        elif ANCHORED in (op.turns_on, op.turns_off) and stage is not None:
            strength, rows = command.arguments.get("strength"), command.arguments.get("rows")
            anchor = AnchorState(strength, rows) if op.turns_on == ANCHORED else None
            stage.set_anchor(command.step or 0, anchor, self.last_seq)

    def _on_rewound(self, event: Rewound) -> None:
        self.rewinds.append(event)
        self.operation = None
        resumed = event.reason == "resumed"
        if resumed:
            # A new worker starts unpaused; one that rolls back while paused stays paused.
            self.paused = self.ended_paused = False
            self.beside = None
        stage = self.stages.get(event.stage)
        if stage is None:
            return
        to = None if resumed else stage.saved_as(event.checkpoint, event.step)
        diagnosis = self.diagnosis
        changed = [c.seq for c in stage.weight_changes if to is not None and c.seq > to.event.seq]
        stage.rewind(event.step, to, resumed=resumed)
        self._forget_after(event.stage)
        if (
            diagnosis is None
            or diagnosis.stage != stage.name
            or (diagnosis.step or 0) > event.step
            # It judged weights that this rollback takes back.
            or any(seq < diagnosis.seq for seq in changed)
        ):
            self.diagnosis_holds = False
        self.stage = stage

    def _on_run_finished(self, event: RunFinished) -> None:
        self.finished = event
        self.ended_paused = self.ended_paused or self.paused
        self.paused = False
        self.operation = self.beside = None


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
    OperationTimes: RunState._on_operation_times,
    OperationProgress: RunState._on_operation,
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
