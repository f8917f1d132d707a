"""What all panels show: the run's state and the operator's choices (range, cursor, filter).

Holds no widgets and reads no files; the console changes it and refreshes the panels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo

from sf_tui.run.directory import RunDirectory
from sf_tui.run.liveness import Liveness, WorkerState
from sf_tui.tui.actions import RunActions
from sf_tui.tui.activity import Kind
from sf_tui.tui.axes import round_up
from sf_tui.tui.event_rows import EventList
from sf_tui.tui.feed import RunSummary
from sf_tui.tui.live_state import LiveState, Place, StageCurves
from sf_tui.tui.machine import MachineSample
from sf_tui.tui.pins import PinnedRuns
from sf_tui.tui.replay import Replay
from sf_tui.tui.theme import DARK, UNICODE, Glyphs, Paint, task_role
from sf_tui.vocabulary.declared import AnchorState
from sf_tui.vocabulary.events import TasksAtRisk


def move_by_probe(view: ViewState, direction: int) -> None:
    """Move the cursor to the previous (-1) or next (+1) probe; after the last one, to live."""
    curves = view.newest.curves
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
    """Move the cursor to the previous (-1) or next (+1) mark; after the last one, to live."""
    jumps = view.jumps()
    x = view.cursor
    if direction < 0:
        before = [jump for jump in jumps if x is None or jump < x]
        view.cursor = before[-1] if before else x
    elif x is not None:
        after = [jump for jump in jumps if jump > x]
        view.cursor = after[0] if after else None


def change_range(view: ViewState, direction: int) -> bool:
    """Make the charts span fewer (+1) or more (-1) steps; return whether they can.

    A range that shows the same steps is skipped.
    """
    before, kept = view.steps_shown, view.range
    index = RANGES.index(kept) + direction
    while 0 <= index < len(RANGES):
        view.range = RANGES[index]
        if view.steps_shown != before:
            return True
        index += direction
    view.range = kept
    return False


def go_to_entry(view: ViewState, stage: str | None, step: int | None) -> bool:
    """Move the cursor to an event's step; return False if the charts have no such step."""
    x = view.newest.curves.x_of(stage or "", step) if step is not None else None
    if x is None:
        return False
    view.cursor = x
    return True


_FEWEST_STEPS = 100
RANGES = ("run", "stage", "window")
"""Ranges of a chart's step axis, from wide to narrow."""


@dataclass
class ViewState:
    """The state of one console.

    Attributes:
        run: the run.
        newest: its newest state, curves and activity.
        actions: the profile's.
        liveness: of its worker.
        progress: share of the history read so far; None when it is complete.
        cursor: global step of the replay cursor, or None while the newest values show.
        range: the steps that charts span.
        log_loss: whether the loss axis is logarithmic.
        event_filter: text that events and lines of the worker log must contain; empty for all.
        notice: the console's reply to the last key; empty for none.
        notice_level: info, warn or error.
        notice_command: id of the command that the notice follows; empty for none.
        events: which row of the events is chosen.
        log_lines: end of the worker's log.
        log_dropped: lines of it before those.
        log_end: number of the line below the last one shown; None to follow the newest one.
        runs: summaries of the machine's runs, newest first; filled only if shown.
        pins: runs whose curves lie over this one's.
        pin_task: the task of those curves; empty for the old one that is watched first.
        zone: time zone of the reader; None for the machine's.
        now_s: seconds since the epoch at the last poll, for elapsed times.
    """

    run: RunDirectory
    newest: LiveState = field(default_factory=LiveState)
    actions: RunActions = field(default_factory=RunActions)
    liveness: Liveness = field(default_factory=lambda: Liveness(WorkerState.STARTING))
    progress: float | None = None
    read_only: bool = False
    cursor: int | None = None
    range: str = "run"
    log_loss: bool = True
    pin_task: str = ""
    event_filter: str = ""
    notice: str = ""
    notice_level: str = "info"
    notice_command: str = ""
    machine: MachineSample | None = None
    events: EventList = field(default_factory=EventList)
    log_lines: list[str] = field(default_factory=list)
    log_dropped: int = 0
    log_end: int | None = None
    runs: list[RunSummary] = field(default_factory=list)
    pins: PinnedRuns = field(default_factory=PinnedRuns)
    glyphs: Glyphs = UNICODE
    paint: Paint = DARK
    zone: tzinfo | None = None
    now_s: float = 0.0
    _replay: Replay = field(default_factory=Replay)

    @property
    def refused(self) -> Mapping[str, str]:
        """Op to the reason why the program that trains can't do it; empty for a run of sf's own."""
        return self.newest.stage.refused if self.newest.stage is not None else {}

    @property
    def offered(self) -> RunActions:
        """The profile's actions without those that this training can't do."""
        return self.actions.without(self.refused)

    @property
    def live(self) -> LiveState:
        """The shown state: the newest one, in replay the one at the cursor.

        What acts on the run or belongs to its worker reads `newest`.
        """
        place = self.place
        return self.newest if place is None else self._replay.at(self.newest, place)

    @property
    def stage(self) -> StageCurves | None:
        """The viewed stage: the cursor's, else the newest."""
        place = self.place
        if place is not None:
            return self.newest.curves.stages.get(place.stage)
        return self.newest.curves.current

    @property
    def place(self) -> Place | None:
        """Stage and step of the replay cursor; None while the newest values show."""
        return None if self.cursor is None else self.newest.curves.place_of(self.cursor)

    @property
    def tasks(self) -> list[str]:
        """Tasks in profile order; the probed ones until `run_started` is read."""
        if self.newest.tasks:
            return self.newest.tasks
        stage = self.newest.curves.current
        return list(stage.accuracy) if stage else []

    @property
    def known(self) -> list[str]:
        """Watched tasks that were learned before the viewed stage."""
        stage = self.stage
        if stage is None:
            return []
        return self.live.watched_of(stage.known)

    def task_paint(self, task: str) -> tuple[str, str]:
        """Return a task's role and marker."""
        index = self.tasks.index(task) if task in self.tasks else len(self.tasks)
        return task_role(index), self.glyphs.task(index)

    def accuracy_now(self, task: str) -> float | None:
        """Return a task's charted measure at the cursor, or the newest."""
        stage = self.stage
        series = stage.accuracy.get(task) if stage else None
        if series is None:
            return self._accuracy_before(task)
        place = self.place
        return series.last_value if place is None else series.value_at(place.step)

    def _accuracy_before(self, task: str) -> float | None:
        """Return a task's last measure in an earlier stage, if this one doesn't probe it."""
        value = None
        for stage in self.newest.curves.stages.values():
            if stage is self.stage:
                break
            series = stage.accuracy.get(task)
            value = series.last_value if series and series.last_value is not None else value
        return value

    @property
    def drop(self) -> float | None:
        """Drop of the worst watched earlier task at the cursor, or the newest."""
        stage = self.stage
        if stage is None:
            return None
        place = self.place
        return stage.drop.last_value if place is None else stage.drop.value_at(place.step)

    @property
    def step(self) -> int:
        """Step within the viewed stage."""
        place = self.place
        if place is not None:
            return place.step
        stage = self.live.stage
        return stage.step if stage else 0

    @property
    def in_window(self) -> bool:
        """Whether the viewed step is in a danger window."""
        stage = self.live.stage
        return bool(stage and stage.in_danger)

    @property
    def frozen_layers(self) -> list[str]:
        """Layers frozen at the viewed step."""
        stage = self.live.stage
        return stage.frozen if stage else []

    @property
    def anchor(self) -> AnchorState | None:
        """The anchor at the viewed step; None without one."""
        stage = self.live.stage
        return stage.anchor if stage else None

    @property
    def anchor_strength(self) -> float:
        """Strength of the anchor; the profile's if the log has none."""
        anchor = self.anchor
        if anchor is None or anchor.strength is None:
            return self.actions.anchor_strength
        return anchor.strength

    @property
    def anchor_loss(self) -> float | None:
        """Divergence from the start model at the newest step; None in replay or unanchored."""
        stage = self.live.stage
        return stage.anchor_loss if stage and self.place is None and stage.anchor else None

    @property
    def at_risk(self) -> TasksAtRisk | None:
        """The tasks at risk in the viewed stage, as ranked by the start model."""
        stage = self.live.stage
        return stage.at_risk if stage else None

    @property
    def verdict(self) -> str:
        """The newest verdict if it applies to the weights of the viewed step; else empty."""
        diagnosis = self.live.diagnosis
        if diagnosis is None or not self.live.diagnosis_holds:
            return ""
        return diagnosis.verdict if self.stage else ""

    @property
    def work(self) -> tuple[str, float] | None:
        """The worker's long-running work and its elapsed seconds; None without any."""
        if self.newest.finished is not None or self.liveness.state is WorkerState.DEAD:
            return None
        if self.liveness.is_loading(self.newest.last_time):
            return None
        row = self.newest.activity.worked_on()
        return None if row is None else (row.doing, row.seconds_until(self.now_s))

    @property
    def steps_shown(self) -> tuple[int, int]:
        """First and last global step of the charts.

        The last one stays ahead of the run in round numbers: a long stage does not squeeze its
        danger window into one column, and the axis rarely changes.
        """
        curves, stage = self.newest.curves, self.stage
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
        """Return the current last step of a stage's axis."""
        if stage is not self.newest.curves.current or self.newest.finished is not None:
            return max(stage.loss.last_x or 0, stage.steps if stage.loss.last_x is None else 1)
        newest = self.newest.stage
        ahead = 1.15 * (newest.step if newest is not None else 0)
        return min(max(2 * stage.window, round_up(ahead), _FEWEST_STEPS), stage.steps)

    def jumps(self) -> list[int]:
        """Return the global steps to jump to: stage starts and all marks except checkpoints."""
        curves = self.newest.curves
        found = {curves.offset(name) for name in curves.stages}
        for row in self.newest.marks(
            Kind.DANGER, Kind.ACTION, Kind.RULE, Kind.VERDICT, Kind.REWIND, Kind.ALERT
        ):
            x = curves.x_of(row.stage or "", row.step or 0)
            if x is not None:
                found.add(x)
        return sorted(found)
