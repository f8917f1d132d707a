"""What has happened in a run so far, folded from its events one at a time.

Every reader (console, `sf show`, headless narration, rules after a resume) folds the same way, so
that they can't disagree. Unknown event types and fields, which a newer version may write, are
passed over. Single `step` events are not kept: a long run has millions of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sf_tui.run.event_fields import EVENTS, EventCheck
from sf_tui.run.events import Event
from sf_tui.vocabulary.commands import DONE, Command
from sf_tui.vocabulary.metrics import Metric, metric_named
from sf_tui.vocabulary.ops import ANCHORED, PAUSED, op_named

Measures = dict[str, float]
"""`exact`, `first_token`, `token` (shares), `nll` (nats a token), `n` (examples)."""

_AFTERWORDS = frozenset({"run_finished", "diagnosis"})
"""What may be told of a run that has ended without its going on."""


@dataclass(frozen=True)
class Anchor:
    """How steps are held to the start model's answers."""

    strength: float | None
    """Weight of the divergence in the loss; None where the log doesn't say."""
    rows: int | None
    """Neighbor prompts a step; None where the log doesn't say."""


@dataclass
class Probe:
    """One measurement of every task so far."""

    step: int
    accuracy: dict[str, Measures]
    full: bool
    """Whether it took the whole held-out sets."""
    paired: dict[str, Measures]
    """The same measures on the examples that every probe of this stage takes."""
    drop: float | None


@dataclass
class StageHistory:
    """One stage as far as it has come."""

    name: str
    task: str
    strategy: str
    steps: int
    known: list[str]
    """Tasks that were learnt before this stage, in profile order."""
    step: int = 0
    probes: list[Probe] = field(default_factory=list)
    last_step: Event | None = None
    drift: Event | None = None
    in_danger: bool = False
    window: int = 0
    finished: bool = False
    anchors: list[tuple[int, Anchor | None]] = field(default_factory=list)
    """From which step on the stage was anchored, and how; None from where it was not."""
    neighbors: Event | None = None
    """The newest naming of the tasks at risk."""

    @property
    def anchor(self) -> Anchor | None:
        """How the stage is anchored now; None where it is not."""
        return self.anchors[-1][1] if self.anchors else None

    def anchor_at(self, step: int) -> Anchor | None:
        """Return how the stage was anchored after a step."""
        return next((anchor for since, anchor in reversed(self.anchors) if since <= step), None)

    @property
    def anchor_loss(self) -> float | None:
        """Divergence from the start model at the newest step, in nats a token."""
        return (self.last_step or {}).get("anchor_loss")

    def turn_anchor(self, step: int, anchor: Anchor | None) -> None:
        """Take the stage as anchored so, or not at all, from a step on."""
        if anchor != self.anchor:
            self.anchors.append((step, anchor))

    @property
    def frozen(self) -> list[str]:
        """Names of the layers that the last drift event calls frozen."""
        return [
            layer["name"] for layer in (self.drift or {}).get("layers", []) if layer.get("frozen")
        ]


@dataclass
class History:
    """A run as its events tell it."""

    run: str = ""
    profile: str = ""
    tasks: list[str] = field(default_factory=list)
    metrics: dict[str, str] = field(default_factory=dict)
    started: Event | None = None
    stages: dict[str, StageHistory] = field(default_factory=dict)
    stage: StageHistory | None = None
    commands: dict[str, Command] = field(default_factory=dict)
    alerts: list[Event] = field(default_factory=list)
    checkpoints: list[Event] = field(default_factory=list)
    rewinds: list[Event] = field(default_factory=list)
    diagnosis: Event | None = None
    """The newest one; None in a run that never asked for one."""
    diagnosis_holds: bool = False
    """Whether the weights have since been changed by steps alone."""
    finished: Event | None = None
    paused: bool = False
    last_seq: int = 0
    last_time: str = ""

    @property
    def status(self) -> str:
        """One of starting, running, paused, or the status of `run_finished`."""
        if self.finished is not None:
            return str(self.finished["status"])
        if self.paused:
            return "paused"
        return "running" if self.started is not None else "starting"

    def metric(self, task: str) -> Metric:
        """Return what a task is measured by."""
        return metric_named(self.metric_of(task))

    def metric_of(self, task: str) -> str:
        """Return which measure is charted for a task."""
        return self.metrics.get(task, "exact_match")

    def value_of(self, task: str, measures: dict[str, Measures]) -> float | None:
        """Return a task's charted measure among the measures of one probe; None without it."""
        found = measures.get(task)
        return None if found is None else found.get(self.metric_of(task))

    def add(self, event: Event) -> None:
        """Fold one event in, which fits its declaration (`event_fields`)."""
        kind = event.get("type")
        self.last_seq = event.get("seq", self.last_seq)
        self.last_time = event.get("time", self.last_time)
        if self.finished is not None and kind not in _AFTERWORDS:
            # A run that was stopped or failed goes on.
            self.finished = None
        fold_in = _FOLDS.get(kind)
        if fold_in is not None:
            fold_in(self, event)

    def _on_run_started(self, event: Event) -> None:
        self.started = event
        self.run = event.get("run", "")
        self.profile = event.get("profile", "")
        self.tasks = list(event.get("tasks", []))
        self.metrics = dict(event.get("metrics", {}))

    def _on_stage_started(self, event: Event) -> None:
        self.stage = StageHistory(
            event["stage"],
            event["task"],
            event.get("strategy", ""),
            event["steps"],
            list(event.get("known", [])),
        )
        anchor = event.get("anchor")
        if anchor:
            self.stage.turn_anchor(0, Anchor(anchor.get("strength"), anchor.get("rows")))
        if (self.diagnosis or {}).get("stage") != self.stage.name:
            self.diagnosis_holds = False
        self.stages[self.stage.name] = self.stage

    def _on_stage_finished(self, event: Event) -> None:
        if event["stage"] in self.stages:
            self.stages[event["stage"]].finished = True

    def _on_step(self, event: Event) -> None:
        stage = self.stages.get(event["stage"])
        if stage is not None:
            stage.step = event["step"]
            stage.last_step = event
            self._settle_anchor(stage, event)
            # `left` is told once; a window that a resume plays again ends without it.
            if stage.step >= stage.window:
                stage.in_danger = False

    @staticmethod
    def _settle_anchor(stage: StageHistory, event: Event) -> None:
        """Believe the step itself: after a rollback or a resume nothing else says it."""
        before = event["step"] - 1
        if "anchor_loss" not in event:
            stage.turn_anchor(before, None)
        elif stage.anchor is None:
            known = [anchor for _, anchor in stage.anchors if anchor is not None]
            stage.turn_anchor(before, known[-1] if known else Anchor(None, None))

    def _on_tasks_at_risk(self, event: Event) -> None:
        if event["stage"] in self.stages:
            self.stages[event["stage"]].neighbors = event

    def _on_diagnosis(self, event: Event) -> None:
        self.diagnosis = event
        self.diagnosis_holds = True

    def _on_probe(self, event: Event) -> None:
        stage = self.stages.get(event["stage"])
        if stage is not None:
            stage.probes.append(
                Probe(
                    event["step"],
                    event["accuracy"],
                    event.get("full", False),
                    event.get("paired", {}),
                    event.get("drop"),
                )
            )

    def _on_drift(self, event: Event) -> None:
        if event["stage"] in self.stages:
            self.stages[event["stage"]].drift = event

    def _on_danger(self, event: Event) -> None:
        stage = self.stages.get(event["stage"])
        if stage is not None:
            stage.in_danger = event["state"] == "entered"
            stage.window = event.get("window", stage.window)

    def _on_alert(self, event: Event) -> None:
        self.alerts.append(event)

    def _on_lines_lost(self, event: Event) -> None:
        self.alerts.append(event)

    def _on_checkpoint(self, event: Event) -> None:
        self.checkpoints.append(event)

    def _on_command(self, event: Event) -> None:
        command = self.commands.get(event["id"])
        if command is None:
            command = self.commands[event["id"]] = Command.from_event(event)
        else:
            command.update(event)
        if command.status == DONE:
            self._on_done(command)

    def _on_done(self, command: Command) -> None:
        op, stage = op_named(command.op), self.stages.get(command.stage or "")
        if PAUSED in (op.turns_on, op.turns_off):
            self.paused = op.turns_on == PAUSED
        elif op.changes_weights:
            self.diagnosis_holds = False
        elif ANCHORED in (op.turns_on, op.turns_off) and stage is not None:
            arguments = command.arguments
            anchor = Anchor(arguments.get("strength"), arguments.get("rows"))
            on = op.turns_on == ANCHORED
            stage.turn_anchor(command.step or 0, anchor if on else None)

    def _on_rewound(self, event: Event) -> None:
        self.rewinds.append(event)
        if event["reason"] == "resumed":
            # A new worker is not paused; one that rolls back while paused stays so.
            self.paused = False
        stage = self.stages.get(event["stage"])
        if stage is None:
            return
        step = event["step"]
        stage.step = step
        stage.finished = stage.finished and step >= stage.steps
        stage.probes = [probe for probe in stage.probes if probe.step <= step]
        if stage.drift is not None and stage.drift["step"] > step:
            stage.drift = None
        if stage.last_step is not None and stage.last_step["step"] > step:
            stage.last_step = None
        stage.anchors = [entry for entry in stage.anchors if entry[0] <= step]
        if stage.window and stage.known:
            stage.in_danger = step < stage.window
        diagnosis = self.diagnosis or {}
        if diagnosis.get("stage") != stage.name or (diagnosis.get("step") or 0) > step:
            self.diagnosis_holds = False
        self.stage = stage

    def _on_run_finished(self, event: Event) -> None:
        self.finished = event
        self.paused = False


_FOLDS: dict[Any, Callable[[History, Event], None]] = {
    name: getattr(History, f"_on_{name}") for name in EVENTS
}


def fold(events: Iterable[Any]) -> History:
    """Return the history that a sequence of events tells; what breaks its declaration is left out.

    Events that were never in a log may be without `seq`.
    Of a log, `read_history` also tells where it is damaged.
    """
    history, check = History(), EventCheck()
    for event in events:
        if isinstance(event, dict) and check.problem({"seq": 0} | event) is None:
            history.add(event)
    return history
