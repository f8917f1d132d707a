"""The curves of a run: accuracy, loss, gradient norm and drift, stage by stage on one axis.

Folds `step`, `probe`, `drift`, `danger`, stage and `rewound` events in bounded room, and lays the
stages end to end so that a whole run has one global step axis. Knows nothing of terminals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from sf_tui.run.events import Event
from sf_tui.tui.series import MinMaxSeries
from sf_tui.vocabulary.metrics import metric_named

DRIFT_SNAPSHOTS = 256
"""Drift measurements kept a stage; when full, every other one goes."""


@dataclass(frozen=True)
class LayerDrift:
    """How far one layer has moved since the stage began."""

    name: str
    relative_update: float
    frozen: bool


@dataclass
class DriftTrack:
    """The drift measurements of one stage, thinned evenly when there are too many."""

    snapshots: list[tuple[int, tuple[LayerDrift, ...]]] = field(default_factory=list)
    latest: tuple[int, tuple[LayerDrift, ...]] | None = None
    _every: int = 1
    _seen: int = 0

    def add(self, step: int, layers: tuple[LayerDrift, ...]) -> None:
        """Take one measurement."""
        self.latest = (step, layers)
        if self._seen % self._every == 0:
            self.snapshots.append(self.latest)
        self._seen += 1
        if len(self.snapshots) > DRIFT_SNAPSHOTS:
            del self.snapshots[1::2]
            self._every *= 2

    def truncate(self, step: int) -> None:
        """Forget what lies behind `step`."""
        self.snapshots = [entry for entry in self.snapshots if entry[0] <= step]
        if self.latest is not None and self.latest[0] > step:
            self.latest = self.snapshots[-1] if self.snapshots else None

    def at(self, step: int | None) -> tuple[LayerDrift, ...]:
        """Return the layers as last measured at or before `step` (None: the newest)."""
        if self.latest is None:
            return ()
        if step is None or step >= self.latest[0]:
            return self.latest[1]
        found: tuple[LayerDrift, ...] = ()
        for at, layers in self.snapshots:
            if at > step:
                break
            found = layers
        return found


@dataclass
class StageCurves:
    """What one stage has measured so far, over its own steps."""

    name: str
    task: str
    steps: int
    known: list[str]
    window: int = 0
    accuracy: dict[str, MinMaxSeries] = field(default_factory=dict)
    drop: MinMaxSeries = field(default_factory=MinMaxSeries)
    loss: MinMaxSeries = field(default_factory=MinMaxSeries)
    grad_norm: MinMaxSeries = field(default_factory=MinMaxSeries)
    drift: DriftTrack = field(default_factory=DriftTrack)

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

    def __init__(self) -> None:
        self.stages: dict[str, StageCurves] = {}
        self._metrics: dict[str, str] = {}

    @property
    def current(self) -> StageCurves | None:
        """The stage that was begun last."""
        return next(reversed(self.stages.values()), None)

    def add(self, event: Event) -> None:
        """Fold one event in; types that carry no curve are passed over."""
        fold = getattr(self, f"_on_{event.get('type')}", None)
        if fold is not None:
            fold(event)

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

    def _on_run_started(self, event: Event) -> None:
        self._metrics = dict(event.get("metrics", {}))

    def _on_stage_started(self, event: Event) -> None:
        name = event["stage"]
        if name in self.stages:
            self._forget_after(name)
        self.stages.pop(name, None)
        self.stages[name] = StageCurves(
            name, event["task"], int(event["steps"]), list(event.get("known", []))
        )

    def _on_danger(self, event: Event) -> None:
        stage = self.stages.get(event["stage"])
        if stage is not None:
            stage.window = int(event.get("window", stage.window))

    def _on_step(self, event: Event) -> None:
        stage = self.stages.get(event["stage"])
        if stage is None:
            return
        step = event["step"]
        _add_finite(stage.loss, step, event.get("loss"))
        _add_finite(stage.grad_norm, step, event.get("grad_norm"))

    def _on_probe(self, event: Event) -> None:
        stage = self.stages.get(event["stage"])
        if stage is None:
            return
        step = event["step"]
        # Full probes also carry the stage's own subset: with it the curve stays paired.
        measures: dict[str, Any] = event["accuracy"] | event.get("paired", {})
        for task, values in measures.items():
            value = values.get(self._metrics.get(task, "exact_match"))
            series = stage.accuracy.get(task)
            if series is None:
                series = stage.accuracy[task] = MinMaxSeries()
            _add_finite(series, step, value)
        drop = event.get("drop")
        if drop is None:
            drop = self._worst_drop(stage)
        _add_finite(stage.drop, step, drop)

    def _worst_drop(self, stage: StageCurves) -> float | None:
        """Return the drop of the worst earlier task, for logs whose probes don't carry it."""
        drops = []
        for task in stage.known:
            series = stage.accuracy.get(task)
            if series is None:
                continue
            start, now = series.value_at(0), series.last_value
            if start is not None and now is not None:
                drops.append(metric_named(self._metrics.get(task, "exact_match")).drop(start, now))
        return max(drops, default=None)

    def _on_drift(self, event: Event) -> None:
        stage = self.stages.get(event["stage"])
        if stage is None:
            return
        layers = tuple(
            LayerDrift(
                str(layer["name"]),
                float(layer["relative_update"] or 0.0),
                bool(layer.get("frozen", False)),
            )
            for layer in event["layers"]
        )
        stage.drift.add(event["step"], layers)

    def _on_rewound(self, event: Event) -> None:
        name = event["stage"]
        if name not in self.stages:
            return
        self.stages[name].truncate(event["step"])
        self._forget_after(name)

    def _forget_after(self, stage: str) -> None:
        """Drop the stages behind one: a run that goes back plays them anew."""
        names = list(self.stages)
        for name in names[names.index(stage) + 1 :]:
            del self.stages[name]


def _add_finite(series: MinMaxSeries, step: int, value: float | None) -> None:
    if value is not None and math.isfinite(value):
        series.add(step, value)
