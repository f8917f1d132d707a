"""What all panels show: the run's state and the operator's choices (range, cursor, filter).

Holds no widgets and reads no files; the console changes it and refreshes the panels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import tzinfo

from sf_tui.run.directory import RunDirectory
from sf_tui.run.liveness import Liveness, WorkerState
from sf_tui.tui.actions import RunActions
from sf_tui.tui.activity import Kind
from sf_tui.tui.axes import round_up
from sf_tui.tui.feed import RunSummary
from sf_tui.tui.live_state import LiveState, Place, StageCurves
from sf_tui.tui.machine import MachineSample
from sf_tui.tui.theme import DARK, UNICODE, Glyphs, Paint, task_role
from sf_tui.vocabulary.event_records import AnchorState
from sf_tui.vocabulary.events import TasksAtRisk


def move_by_probe(view: ViewState, direction: int) -> None:
    """Move the cursor to the probe before (-1) or after (+1); behind the last one is live."""
    curves = view.live.curves
    x = view.cursor
    if x is None:
        if direction > 0:
            return
        x = curves.end + 1
    found: list[int] = []
    for name, stage in curves.stages.items():
        offset = curves.offset(name)
        for series in stage.accuracy.values():
            step = (
                series.step_before(x - offset) if direction < 0 else series.step_after(x - offset)
            )
            if step is not None:
                found.append(offset + step)
    if found:
        view.cursor = max(found) if direction < 0 else min(found)
    elif direction > 0:
        view.cursor = None


def jump_to_mark(view: ViewState, direction: int) -> None:
    """Move the cursor to what happened before (-1) or next (+1); behind the last one is live."""
    jumps = view.jumps()
    x = view.cursor
    if direction < 0:
        before = [jump for jump in jumps if x is None or jump < x]
        view.cursor = before[-1] if before else x
    elif x is not None:
        after = [jump for jump in jumps if jump > x]
        view.cursor = after[0] if after else None


def look_closer(view: ViewState, direction: int) -> None:
    """Let the charts span fewer (+1) or more (-1) steps."""
    index = RANGES.index(view.range) + direction
    view.range = RANGES[min(max(index, 0), len(RANGES) - 1)]


_FEWEST_STEPS = 100
RANGES = ("run", "stage", "window")
"""What a chart's step axis may span, from far to near."""


@dataclass
class ViewState:
    """The state of one console.

    Attributes:
        run: which run.
        live: its state, curves and activity.
        actions: the profile's.
        liveness: of its worker.
        progress: share of the history read so far, or None when all of it is.
        cursor: global step of the replay cursor, or None while the newest values show.
        range: which steps charts span.
        log_loss: whether the loss axis is logarithmic.
        event_filter: text that events must contain; empty for all.
        notice: what the console has to say about the last key; empty for nothing.
        notice_level: info, warn or error.
        notice_command: id of the command that the notice is about; empty for none.
        log_lines: end of what the worker printed.
        runs: other runs, newest first; only filled where they are shown.
        zone: where the reader is; None for the machine's own time zone.
        now_s: seconds since the epoch at the last look; for how long the worker has been at it.
    """

    run: RunDirectory
    live: LiveState = field(default_factory=LiveState)
    actions: RunActions = field(default_factory=RunActions)
    liveness: Liveness = field(default_factory=lambda: Liveness(WorkerState.STARTING))
    progress: float | None = None
    read_only: bool = False
    cursor: int | None = None
    range: str = "run"
    log_loss: bool = True
    event_filter: str = ""
    notice: str = ""
    notice_level: str = "info"
    notice_command: str = ""
    machine: MachineSample | None = None
    log_lines: list[str] = field(default_factory=list)
    runs: list[RunSummary] = field(default_factory=list)
    glyphs: Glyphs = UNICODE
    paint: Paint = DARK
    zone: tzinfo | None = None
    now_s: float = 0.0

    @property
    def stage(self) -> StageCurves | None:
        """The stage that is looked at: the cursor's, else the newest."""
        place = self.place
        if place is not None:
            return self.live.curves.stages.get(place.stage)
        return self.live.curves.current

    @property
    def place(self) -> Place | None:
        """Where the replay cursor is; None while the newest values show."""
        return None if self.cursor is None else self.live.curves.place_of(self.cursor)

    @property
    def tasks(self) -> list[str]:
        """Tasks in profile order; before the run has said so, those that were probed."""
        if self.live.tasks:
            return self.live.tasks
        stage = self.live.curves.current
        return list(stage.accuracy) if stage else []

    @property
    def known(self) -> list[str]:
        """Earlier tasks that the stage looked at can damage, and that count as old ones."""
        stage = self.stage
        if stage is None:
            return []
        return self.live.watched_of(stage.known)

    def task_paint(self, task: str) -> tuple[str, str]:
        """Return a task's role and marker."""
        index = self.tasks.index(task) if task in self.tasks else len(self.tasks)
        return task_role(index), self.glyphs.task(index)

    def accuracy_now(self, task: str) -> float | None:
        """Return a task's charted measure where the view looks."""
        stage = self.stage
        series = stage.accuracy.get(task) if stage else None
        if series is None:
            return self._accuracy_before(task)
        place = self.place
        return series.last_value if place is None else series.value_at(place.step)

    def _accuracy_before(self, task: str) -> float | None:
        """Return a task's last measure in an earlier stage, where this one doesn't probe it."""
        value = None
        for stage in self.live.curves.stages.values():
            if stage is self.stage:
                break
            series = stage.accuracy.get(task)
            value = series.last_value if series and series.last_value is not None else value
        return value

    def accuracy_at_start(self, task: str) -> float | None:
        """Return a task's charted measure at the beginning of the stage looked at."""
        series = self.stage.accuracy.get(task) if self.stage else None
        return None if series is None else series.value_at(0)

    @property
    def drop(self) -> float | None:
        """The worst watched earlier task's drop where the view looks."""
        stage = self.stage
        if stage is None:
            return None
        place = self.place
        return stage.drop.last_value if place is None else stage.drop.value_at(place.step)

    @property
    def step(self) -> int:
        """Step of the stage looked at."""
        place = self.place
        if place is not None:
            return place.step
        stage = self.live.stage
        return stage.step if stage else 0

    @property
    def in_window(self) -> bool:
        """Whether the step looked at lies in a danger window."""
        stage, newest = self.stage, self.live.stage
        if stage is None or not stage.window:
            return False
        if self.place is not None:
            return self.place.step < stage.window
        return bool(newest and newest.in_danger)

    @property
    def frozen_layers(self) -> list[str]:
        """Layers that were frozen where the view looks."""
        stage = self.stage
        if stage is None:
            return []
        place = self.place
        return [
            layer.name
            for layer in stage.drift.at(None if place is None else place.step)
            if layer.frozen
        ]

    @property
    def anchor(self) -> AnchorState | None:
        """How steps were anchored where the view looks; None where they were not."""
        stage, place = self.live.stage, self.place
        if place is not None:
            stage = self.live.stages.get(place.stage)
            return stage.anchor_at(place.step) if stage else None
        return stage.anchor if stage else None

    @property
    def anchor_strength(self) -> float:
        """Strength of the anchor, the profile's own where the log names none."""
        anchor = self.anchor
        if anchor is None or anchor.strength is None:
            return self.actions.anchor_strength
        return anchor.strength

    @property
    def anchor_loss(self) -> float | None:
        """Divergence from the start model at the newest step; None elsewhere and unanchored."""
        stage = self.live.stage
        return stage.anchor_loss if stage and self.place is None and stage.anchor else None

    @property
    def at_risk(self) -> TasksAtRisk | None:
        """The tasks at risk in the stage looked at, as the start model ranks them."""
        stage = self.live.stages.get(self.stage.name) if self.stage else None
        return stage.at_risk if stage else None

    @property
    def verdict(self) -> str:
        """The newest verdict, if it is of this stage and of weights like these; else empty."""
        diagnosis = self.live.diagnosis
        if diagnosis is None or not self.live.diagnosis_holds or self.place is not None:
            return ""
        return diagnosis.verdict if self.stage else ""

    @property
    def work(self) -> tuple[str, float] | None:
        """What keeps the worker from going on, and for how many seconds; None if nothing does."""
        if self.live.finished is not None or self.liveness.state is WorkerState.DEAD:
            return None
        row = self.live.activity.worked_on()
        return None if row is None else (row.doing, row.seconds_until(self.now_s))

    @property
    def steps_shown(self) -> tuple[int, int]:
        """First and last global step of the charts.

        The last one runs ahead of the run in round strides, so that a long stage does not squeeze
        its danger window into one column, and the axis still seldom moves.
        """
        curves, stage = self.live.curves, self.stage
        if stage is None:
            return (0, 1)
        offset = curves.offset(stage.name)
        if self.range == "window" and stage.window:
            return (offset, offset + max(min(2 * stage.window, stage.steps), 1))
        newest = curves.current
        if self.range == "run" and newest is not None:
            return (0, max(curves.offset(newest.name) + self._reach(newest), 1))
        return (offset, offset + max(self._reach(stage), 1))

    def _reach(self, stage: StageCurves) -> int:
        """Return the step up to which a stage's axis goes for now."""
        if stage is not self.live.curves.current or self.live.finished is not None:
            return max(stage.loss.last_x or 0, stage.steps if stage.loss.last_x is None else 1)
        newest = self.live.stage
        ahead = 1.15 * (newest.step if newest is not None else 0)
        return min(max(2 * stage.window, round_up(ahead), _FEWEST_STEPS), stage.steps)

    def jumps(self) -> list[int]:
        """Return the global steps worth jumping to: all that happened beside checkpoints."""
        curves = self.live.curves
        found = {curves.offset(name) for name in curves.stages}
        for row in self.live.marks(
            Kind.DANGER, Kind.ACTION, Kind.RULE, Kind.VERDICT, Kind.REWIND, Kind.ALERT
        ):
            x = curves.x_of(row.stage or "", row.step or 0)
            if x is not None:
                found.add(x)
        return sorted(found)
