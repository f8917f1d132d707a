"""A run's state plus what the console draws: curves, activity, speed; in bounded memory.

The curves (accuracy, loss, gradient norm, drift) are decimated series per stage; stages are laid
end to end on one global step axis. Knows events; knows nothing of terminals.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from sf_tui.run.clock import seconds_since_epoch
from sf_tui.run.losses import worst_loss
from sf_tui.run.stage_state import StageState
from sf_tui.run.state import RunState
from sf_tui.tui.activity import ActivityLog, Entry, Kind
from sf_tui.tui.history import History
from sf_tui.tui.series import DriftTrack, MinMaxSeries
from sf_tui.vocabulary.events import (
    CommandAnswered,
    Drift,
    Event,
    Probe,
    QuestionAnswered,
    Rewound,
    StageStarted,
    Step,
)
from sf_tui.vocabulary.sizes import counted

STEPS_TIMED = 400
"""Number of newest steps that the speed is measured over."""


@dataclass
class StageCurves:
    """The series of one stage over its own steps, with its state."""

    state: StageState
    accuracy: dict[str, MinMaxSeries] = field(default_factory=dict)
    drop: MinMaxSeries = field(default_factory=MinMaxSeries)
    loss: MinMaxSeries = field(default_factory=MinMaxSeries)
    grad_norm: MinMaxSeries = field(default_factory=MinMaxSeries)
    drift: DriftTrack = field(default_factory=DriftTrack)

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.state.name

    @property
    def task(self) -> str:
        """The task it trains."""
        return self.state.task

    @property
    def steps(self) -> int:
        """Its length."""
        return self.state.steps

    @property
    def known(self) -> list[str]:
        """Tasks learned before it."""
        return self.state.known

    @property
    def window(self) -> int:
        """Length of its danger window; 0 without one."""
        return self.state.window

    def truncate(self, step: int) -> None:
        """Drop everything after `step`."""
        for series in (*self.accuracy.values(), self.drop, self.loss, self.grad_norm):
            series.truncate(step)
        self.drift.truncate(step)


@dataclass(frozen=True)
class Place:
    """A step of a stage."""

    stage: str
    step: int


class Curves:
    """All stages of a run in order of training.

    Attributes:
        stages: by name, in order.
    """

    def __init__(self, run: RunState) -> None:
        self._run = run
        self.stages: dict[str, StageCurves] = {}

    @property
    def current(self) -> StageCurves | None:
        """The stage that began last."""
        return next(reversed(self.stages.values()), None)

    def add(self, event: Event) -> None:
        """Add an event's measurements; the run's state was updated before."""
        if isinstance(event, Step):
            stage = self.stages.get(event.stage)
            if stage is not None:
                _add_finite(stage.loss, event.step, event.loss)
                _add_finite(stage.grad_norm, event.step, event.grad_norm)
        elif isinstance(event, Probe):
            if event.stage in self.stages:
                self._add_probe(self.stages[event.stage], event)
        elif isinstance(event, Drift):
            if event.stage in self.stages:
                self.stages[event.stage].drift.add(event)
        elif isinstance(event, StageStarted):
            self.stages.pop(event.stage, None)
            self._follow_stages()
        elif isinstance(event, Rewound):
            if event.stage in self.stages:
                self._rewind(self.stages[event.stage], event.step)
            self._follow_stages()

    def _rewind(self, stage: StageCurves, step: int) -> None:
        """Drop what a rewind of the state abandoned; the newest values become the state's own."""
        state = stage.state
        stage.truncate(step)
        probe = state.probes[-1] if state.probes else None
        for series in (*stage.accuracy.values(), stage.drop):
            # The point at the step itself may come from after an edit that was taken back.
            last = series.last_x
            if last is not None and (probe is None or last >= probe.step):
                series.truncate((probe.step if probe else 0) - 1)
        if probe is not None:
            self._add_probe(stage, probe)
        stage.drift.latest = state.drift
        stage.drift.snapshots = [
            each for each in stage.drift.snapshots if state.drift and each.seq <= state.drift.seq
        ]

    def _follow_stages(self) -> None:
        """Keep only the series of stages in the run's state."""
        self.stages = {
            name: self.stages.get(name) or StageCurves(state)
            for name, state in self._run.stages.items()
        }

    def offset(self, stage: str) -> int:
        """Return the global step at which a stage begins."""
        before = 0
        for name, curves in self.stages.items():
            if name == stage:
                return before
            before += curves.steps
        return before

    @property
    def end(self) -> int:
        """Global step of the planned end of the newest stage."""
        return sum(stage.steps for stage in self.stages.values())

    def place_of(self, x: int) -> Place | None:
        """Return the stage and step at a global step."""
        before = 0
        found: Place | None = None
        for name, curves in self.stages.items():
            # A stage's step 0 is the last step of the stage before it, which takes precedence.
            if found is None or x > before:
                found = Place(name, x - before)
            before += curves.steps
        return found

    def x_of(self, stage: str, step: int) -> int | None:
        """Return the global step of a stage's step; None for an unknown stage."""
        return self.offset(stage) + step if stage in self.stages else None

    def _add_probe(self, stage: StageCurves, probe: Probe) -> None:
        for task, measures in probe.comparable.items():
            series = stage.accuracy.get(task)
            if series is None:
                series = stage.accuracy[task] = MinMaxSeries()
            _add_finite(series, probe.step, measures.get(self._run.metric_of(task)))
        _add_finite(stage.drop, probe.step, probe.drop)


def _add_finite(series: MinMaxSeries, step: int, value: float | None) -> None:
    if value is not None and math.isfinite(value):
        series.add(step, value)


class LiveState(RunState):
    """A run's state, folded for display.

    Attributes:
        curves: decimated series.
        activity: events other than measurements.
        history: the state at every earlier step.
        questions: the operators' own questions that were answered, by command.
        damaged_lines: lines of the log that were skipped or are missing.
        version: rises with every event.
        on_disk: folders of the checkpoints that exist, relative to the run directory; None while
            they are not known.
    """

    def __init__(self) -> None:
        super().__init__()
        self.curves = Curves(self)
        self.activity = ActivityLog()
        self.history = History()
        self.questions: dict[str, QuestionAnswered] = {}
        self.on_disk: frozenset[str] | None = None
        self.damaged_lines = 0
        self.version = 0
        self._last_speed: float | None = None
        self._damage_row: Entry | None = None
        self._step_times: deque[tuple[str, int, str]] = deque(maxlen=STEPS_TIMED)

    def add(self, event: Event) -> None:
        """Fold one event in."""
        self.version += 1
        if isinstance(event, Step):
            self._add_step(event)
            return
        if isinstance(event, QuestionAnswered):
            self.questions[event.command] = event
        before = _held(self) if isinstance(event, Rewound) else ()
        super().add(event)
        self.curves.add(event)
        if isinstance(event, Rewound):
            if event.reason != "resumed":
                saved = self.stage.saved if self.stage else []
                exact = bool(saved) and saved[-1].event.step == event.step
                self.activity.abandon(event, saved[-1].event.seq if exact else None)
            self.activity.add(event, _changes(before, _held(self)))
        else:
            self.activity.add(event)
        self.history.add(event, self)
        if isinstance(event, Rewound | StageStarted | CommandAnswered):
            # The time of a pause or a rewind is not a step time.
            self._last_speed = self.steps_per_second or self._last_speed
            self._step_times.clear()

    def _add_step(self, event: Step) -> None:
        stage = self.stages.get(event.stage)
        anchored = len(stage.anchors) if stage is not None else 0
        super().add(event)
        self.curves.add(event)
        self._step_times.append((event.stage, event.step, event.time))
        if event.step == 1 or (stage is not None and len(stage.anchors) != anchored):
            self.history.add(event, self)

    def note_damage(self, count: int, first: str) -> None:
        """Show the number of damaged log lines in one row.

        Args:
            count: lines skipped or missing so far.
            first: position and fault of the first one.
        """
        text = f"{counted(count, 'damaged line')} in the log left out: {first}"
        if self._damage_row is None:
            self._damage_row = Entry(Kind.ALERT, "", None, None, text, "error")
            self.activity.rows.append(self._damage_row)
        elif self._damage_row.text == text:
            return
        self._damage_row.text = text
        self.damaged_lines = count
        self.version += 1
        self.activity.version += 1

    def assume_stages_until(self, stage: str) -> None:
        """Start the planned stages up to one whose `stage_started` is not read yet.

        The plan in `run_started` gives the earlier stages, which the step axis needs.
        """
        planned = self.started.stages if self.started else ()
        if stage not in {entry.stage for entry in planned}:
            return
        learned = self.tasks[:1]
        for entry in planned:
            known = [task for task in learned if task != entry.task]
            supposed = StageStarted(entry.stage, entry.task, entry.steps, known=known)
            super().add(supposed)
            self.curves.add(supposed)
            learned.append(entry.task)
            if entry.stage == stage:
                break
        # No event tells of these stages.
        self.history.keep_copy(self)

    @property
    def steps_per_second(self) -> float | None:
        """Speed over the newest steps, including the probes between them."""
        if len(self._step_times) < 3:
            return None
        (stage, first, began), (last_stage, last, ended) = self._step_times[0], self._step_times[-1]
        start, end = seconds_since_epoch(began), seconds_since_epoch(ended)
        if start is None or end is None or end <= start or stage != last_stage or last <= first:
            return None
        return (last - first) / (end - start)

    @property
    def stages_planned(self) -> list[tuple[str, int]]:
        """All known stages of the run with their steps."""
        stages = self.started.stages if self.started else ()
        planned = [(entry.stage, entry.steps) for entry in stages]
        named = {name for name, _ in planned}
        return planned + [
            (stage.name, stage.steps) for stage in self.stages.values() if stage.name not in named
        ]

    @property
    def stage_seconds_left(self) -> float | None:
        """Seconds to the stage's planned end; None if unknown."""
        stage = self.stage
        return None if stage is None else self._seconds_for(stage.steps - stage.step)

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the run's planned end; None if unknown."""
        stage = self.stage
        if stage is None:
            return None
        left = stage.steps - stage.step
        seen = False
        for name, steps in self.stages_planned:
            if seen:
                left += steps
            seen = seen or name == stage.name
        return self._seconds_for(left)

    def _seconds_for(self, steps: int) -> float | None:
        """Return the time that some steps take at the newest speed known."""
        speed = self.steps_per_second or self._last_speed
        return None if speed is None or self.finished is not None else steps / speed

    @property
    def worst_known(self) -> str | None:
        """The watched earlier task that has lost most since the run began."""
        worst = worst_loss(self)
        return worst.task if worst else None

    def marks(self, *kinds: Kind) -> list[Entry]:
        """Return the entries of some kinds that have a stage and a step.

        Entries that a rollback took back are left out, and so are checkpoints that were deleted.
        """
        return [
            row
            for row in self.activity.rows
            if row.kind in kinds
            and row.stage is not None
            and row.step is not None
            and not row.abandoned
            and not row.is_rollback
            and (not row.path or self.on_disk is None or row.path in self.on_disk)
        ]


def _held(state: RunState) -> tuple[bool, bool, int]:
    """Return whether a run is paused and anchored, and how many of its layers are frozen."""
    stage = state.stage
    paused = state.paused or state.ended_paused
    return paused, bool(stage and stage.anchor), len(stage.frozen) if stage else 0


def _changes(before: tuple[bool, bool, int] | tuple[()], after: tuple[bool, bool, int]) -> str:
    """Return what a rewind changed of what `_held` gives, for the end of a sentence."""
    if not before:
        return ""
    said = []
    if before[0] and not after[0]:
        said.append("the pause is over")
    if before[1] != after[1]:
        said.append("no longer anchored" if before[1] else "anchored again")
    if before[2] != after[2]:
        count = f"{counted(after[2], 'layer')} frozen"
        said.append(count if after[2] else "no layer frozen any more")
    return "".join(f"; {part}" for part in said)
