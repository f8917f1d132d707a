"""The whole curves of a run: every probe and loss of the branch that its weights come from.

The fold that other readers share keeps a bounded number of probes; this keeps all of them. What a
rewind voids is dropped. Decimation keeps the smallest and the largest value of each bucket.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import reason_of
from sf_tui.run.events import EventTail
from sf_tui.run.losses import score_of
from sf_tui.run.reading import describe_damage
from sf_tui.run.state import RunState
from sf_tui.vocabulary.events import Probe, Rewound, StageStarted, Step

LOSS = "loss"
"""Series of a stage's training loss; the other series are its tasks."""


@dataclass
class Points:
    """Values over the steps of one stage, in order."""

    steps: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    seqs: array[int] = field(default_factory=lambda: array("q"))

    def add(self, step: int, value: float | None, seq: int) -> None:
        """Add a value; one that is missing or not finite is left out."""
        if value is not None and math.isfinite(value):
            self.steps.append(step)
            self.values.append(value)
            self.seqs.append(seq)

    def rewind(self, step: int, last_seq: int | None) -> None:
        """Drop the points after a step, and those at it that a checkpoint doesn't contain."""
        end = bisect_right(self.steps, step)
        while last_seq is not None and end and self.steps[end - 1] == step:
            if self.seqs[end - 1] <= last_seq:
                break
            end -= 1
        for column in (self.steps, self.values, self.seqs):
            del column[end:]


@dataclass
class RunCurves:
    """A run with all its curves.

    Attributes:
        run: the run.
        state: its folded log.
        series: points by stage, then by task or `LOSS`.
        damage: the damage to its log.
    """

    run: RunDirectory
    state: RunState = field(default_factory=RunState)
    series: dict[str, dict[str, Points]] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)

    def points(self, stage: str, series: str) -> Points:
        """Return one series, an empty one if the run has none."""
        return self.series.get(stage, {}).get(series, Points())


def read_curves(run: RunDirectory) -> RunCurves:
    """Read a run's log once; damage does not raise."""
    found, tail = RunCurves(run), EventTail(run.events)
    state = found.state
    try:
        for event in tail.iterate():
            if isinstance(event, Rewound):
                _rewind(found, event)
            state.add(event)
            if isinstance(event, StageStarted):
                _begin(found, event.stage)
            elif isinstance(event, Step):
                _series(found, event.stage, LOSS).add(event.step, event.loss, event.seq)
            elif isinstance(event, Probe):
                for task in event.metrics:
                    score = score_of(state, task, event, comparable=True)
                    value = None if score is None else score.value
                    _series(found, event.stage, task).add(event.step, value, event.seq)
    except OSError as error:
        found.damage.append(f"{run.events}: can't be read: {reason_of(error)}")
        return found
    found.damage += describe_damage(run, tail)
    return found


def _series(found: RunCurves, stage: str, series: str) -> Points:
    return found.series.setdefault(stage, {}).setdefault(series, Points())


def _begin(found: RunCurves, stage: str) -> None:
    """Forget a stage that begins again, and those after it."""
    names = list(found.series)
    if stage in names:
        for name in names[names.index(stage) :]:
            del found.series[name]
    found.series[stage] = {}


def _rewind(found: RunCurves, event: Rewound) -> None:
    names = list(found.series)
    if event.stage not in names:
        return
    for name in names[names.index(event.stage) + 1 :]:
        del found.series[name]
    stage, to = found.state.stages.get(event.stage), None
    if stage is not None and event.reason != "resumed":
        to = stage.saved_as(event.checkpoint, event.step)
    for points in found.series[event.stage].values():
        points.rewind(event.step, to.event.seq if to else None)


def aligned(runs: Mapping[str, Points], buckets: int) -> list[dict[str, object]]:
    """Return several curves on one axis of steps, decimated to buckets.

    Args:
        runs: points by the run's label.
        buckets: most rows.

    Returns:
        For each bucket with a value: `step` (its last step), and under `values` for each run the
        smallest, the largest and the last value, or None.
    """
    steps = sorted({step for points in runs.values() for step in points.steps})
    size = max(math.ceil(len(steps) / buckets), 1)
    rows: list[dict[str, object]] = []
    starts = dict.fromkeys(runs, 0)
    for at in range(0, len(steps), size):
        last = steps[min(at + size, len(steps)) - 1]
        values: dict[str, object] = {}
        for label, points in runs.items():
            end = bisect_right(points.steps, last, lo=starts[label])
            inside = points.values[starts[label] : end]
            starts[label] = end
            values[label] = (
                {"min": min(inside), "max": max(inside), "last": inside[-1]} if inside else None
            )
        rows.append({"step": last, "values": values})
    return rows
