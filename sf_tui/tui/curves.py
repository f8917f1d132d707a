"""The curves of a run: accuracy, loss, gradient norm and drift, stage by stage on one axis.

Series in bounded room over the stages of a `RunState`, laid end to end so that a whole run has one
global step axis. Knows nothing of terminals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from sf_tui.run.state import RunState, StageState
from sf_tui.tui.series import MinMaxSeries
from sf_tui.vocabulary.declared import LayerDrift
from sf_tui.vocabulary.events import Drift, Event, Probe, Rewound, StageStarted, Step

DRIFT_SNAPSHOTS = 256
"""Drift measurements kept a stage; when full, every other one goes."""


@dataclass
class DriftTrack:
    """The drift measurements of one stage, thinned evenly when there are too many."""

    snapshots: list[Drift] = field(default_factory=list)
    latest: Drift | None = None
    _every: int = 1
    _seen: int = 0

    def add(self, measured: Drift) -> None:
        """Add one measurement."""
        self.latest = measured
        if self._seen % self._every == 0:
            self.snapshots.append(self.latest)
        self._seen += 1
        if len(self.snapshots) > DRIFT_SNAPSHOTS:
            del self.snapshots[1::2]
            self._every *= 2

    def truncate(self, step: int) -> None:
        """Forget what lies behind `step`."""
        self.snapshots = [entry for entry in self.snapshots if entry.step <= step]
        if self.latest is not None and self.latest.step > step:
            self.latest = self.snapshots[-1] if self.snapshots else None

    def at(self, step: int | None) -> Sequence[LayerDrift]:
        """Return the layers as last measured at or before `step` (None: the newest)."""
        if self.latest is None:
            return ()
        if step is None or step >= self.latest.step:
            return self.latest.layers
        found: Sequence[LayerDrift] = ()
        for measured in self.snapshots:
            if measured.step > step:
                break
            found = measured.layers
        return found


@dataclass
class StageCurves:
    """The series of one stage over its own steps, beside its state."""

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
        """Forget what lies behind `step`."""
        for series in (*self.accuracy.values(), self.drop, self.loss, self.grad_norm):
            series.truncate(step)
        self.drift.truncate(step)


@dataclass(frozen=True)
class Place:
    """A step of a stage."""

    stage: str
    step: int


class Curves:
    """All stages of a run in the order they were played.

    Attributes:
        stages: by name, in order.
    """

    def __init__(self, run: RunState) -> None:
        self._run = run
        self.stages: dict[str, StageCurves] = {}

    @property
    def current(self) -> StageCurves | None:
        """The stage that was begun last."""
        return next(reversed(self.stages.values()), None)

    def add(self, event: Event) -> None:
        """Add what an event measured; the run's state has it already."""
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
                self.stages[event.stage].truncate(event.step)
            self._follow_stages()

    def _follow_stages(self) -> None:
        """Keep the series of the stages that the run's state has."""
        self.stages = {
            name: self.stages.get(name) or StageCurves(state)
            for name, state in self._run.stages.items()
        }

    def offset(self, stage: str) -> int:
        """Return how many steps of the global axis lie before a stage."""
        before = 0
        for name, curves in self.stages.items():
            if name == stage:
                return before
            before += curves.steps
        return before

    @property
    def end(self) -> int:
        """Global steps up to the planned end of the stage begun last."""
        return sum(stage.steps for stage in self.stages.values())

    def place_of(self, x: int) -> Place | None:
        """Return the stage and its step that lie at a global step."""
        before = 0
        found: Place | None = None
        for name, curves in self.stages.items():
            # A stage's step 0 lies where the stage before it ended; the earlier one has it.
            if found is None or x > before:
                found = Place(name, x - before)
            before += curves.steps
        return found

    def x_of(self, stage: str, step: int) -> int | None:
        """Return the global step of a stage's step, or None for a stage that was not played."""
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
