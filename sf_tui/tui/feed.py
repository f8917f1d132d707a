"""Reads event logs for display: the open run's newest part first, and summaries of other runs.

A log of a million events is folded in the background while its tail is already on the screen and
still followed. A run's summary reads only the two ends of its log, so that a list of many long runs
is quick. Knows files and time budgets; knows nothing of widgets.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_tui.run.clock import seconds_since_epoch
from sf_tui.run.commands import CommandTail
from sf_tui.run.directory import RunDirectory, list_runs
from sf_tui.run.durable import open_regular, reason_of
from sf_tui.run.events import EventTail
from sf_tui.run.liveness import WorkerState, probe_liveness
from sf_tui.run.state import RunState
from sf_tui.tui.live_state import LiveState
from sf_tui.vocabulary.events import (
    CheckpointWritten,
    Danger,
    Drift,
    Event,
    OperationProgress,
    OperationTimes,
    Probe,
    RunFinished,
    RunStarted,
    StageFinished,
    Step,
    TasksAtRisk,
)
from sf_tui.vocabulary.measured import Score, score_in

WHOLE_UP_TO_BYTES = 2_000_000
"""A log up to this size is folded before the first frame: about 0.1 s."""
HEAD_BYTES = 1 << 16
TAIL_BYTES = 1 << 19
"""Of a larger log, this much of its end is shown first: about 2,500 steps."""
POLL_BUDGET_S = 0.04
"""Longest time that one poll may block the screen."""
RUNS_LISTED = 40
"""Most runs in a list, newest first."""
SUMMARY_HEAD_BYTES = 1 << 14
SUMMARY_END_BYTES = 1 << 16
_MEASURED = (Step, Probe, Drift, CheckpointWritten, TasksAtRisk, OperationProgress, OperationTimes)
"""Events that can wait for the next frame."""
_STAGED = (Step, Probe, Drift, StageFinished, Danger, TasksAtRisk)


class RunFeed:
    """Follows one run's event and command logs.

    Attributes:
        run: the run.
        live: the state so far; replaced once, when the whole history is read.
        progress: share of the history read so far; None when it is complete.
        is_urgent: whether something was read that should be shown at once.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.live = LiveState()
        self.progress: float | None = None
        self.is_urgent = False
        self._pending: deque[Event] = deque()
        self._pending_requests: list[dict[str, Any]] = []
        self._damaged_before = 0
        self._tail = EventTail(run.events)
        self._requests = CommandTail(run.commands)
        self._whole: LiveState | None = None
        self._whole_tail = EventTail(run.events)
        self._whole_events: Iterator[Event] | None = None
        size = _size_of(run.events)
        try:
            if size <= WHOLE_UP_TO_BYTES:
                for event in self._tail.iterate():
                    self.live.add(event)
            else:
                self._open_tail_first(size)
        except OSError as error:
            self.live.note_damage(1, f"{run.events}: can't be read: {reason_of(error)}")
        self._note_damage()
        self.read()
        self.apply()

    @property
    def is_behind(self) -> bool:
        """Whether something was read that `apply` has not folded yet."""
        return bool(self._pending or self._pending_requests)

    def poll(self) -> bool:
        """Read and fold what was appended since the last poll; return whether there was any."""
        changed = self.read()
        self.apply()
        return changed

    def read(self) -> bool:
        """Read what was appended since the last time, without folding it; return if there is any.

        The state stays as it is until `apply`.
        """
        before = len(self._pending) + len(self._pending_requests)
        deadline = time.perf_counter() + POLL_BUDGET_S
        with suppress(OSError):
            # The file system may be unavailable for a moment; the next poll tries again.
            self._pending_requests += [line for line in self._requests.poll() if "id" in line]
            for event in self._tail.iterate():
                self._pending.append(event)
                self.is_urgent = self.is_urgent or not isinstance(event, _MEASURED)
                if time.perf_counter() > deadline:
                    break
        self.is_urgent = self.is_urgent or bool(self._pending_requests)
        damaged = self._tail.unreadable + self._tail.gaps != self._damaged_before
        return damaged or len(self._pending) + len(self._pending_requests) > before

    def apply(self) -> None:
        """Fold what was read, up to a time budget; `is_behind` is true while some is left."""
        deadline = time.perf_counter() + POLL_BUDGET_S
        for line in self._pending_requests:
            self.live.activity.add_request(line)
        self._pending_requests.clear()
        while self._pending:
            self._fold_live(self._pending.popleft())
            if time.perf_counter() > deadline:
                break
        # What is left is shown with the next polls, without waiting for a frame.
        self.is_urgent = bool(self._pending)
        self._note_damage()

    def read_history(self, budget_s: float) -> bool:
        """Fold older events for at most `budget_s`; return whether any are left to read."""
        if self._whole is None or self._whole_events is None:
            return False
        deadline = time.perf_counter() + budget_s
        for count, event in enumerate(self._whole_events):
            self._whole.add(event)
            if count % 64 == 0 and time.perf_counter() > deadline:
                size = max(_size_of(self.run.events), 1)
                self.progress = min(self._whole_tail.offset / size, 0.99)
                return True
        self._switch_to_whole()
        return False

    def _switch_to_whole(self) -> None:
        """Switch to the full history and follow the log from its end."""
        assert self._whole is not None
        self._whole.version = self.live.version + 1
        self._whole.activity.version = self.live.activity.version + 1
        self.live = self._whole
        self._tail = self._whole_tail
        self._whole = None
        self._whole_events = None
        # The whole history contains what the tail has read.
        self._pending.clear()
        self._pending_requests.clear()
        self._damaged_before = 0
        self.progress = None
        self._requests = CommandTail(self.run.commands)
        self.read()
        self.apply()

    def _note_damage(self) -> bool:
        """Report damaged lines to the state; return whether there are more than before."""
        count = self._tail.unreadable + self._tail.gaps
        if count == self._damaged_before or not self._tail.damage:
            return False
        self._damaged_before = count
        self.live.note_damage(count, self._tail.damage[0].spell(self.run.events))
        return True

    def _open_tail_first(self, size: int) -> None:
        head = EventTail(self.run.events)
        for event in head.iterate():
            if isinstance(event, RunStarted):
                self.live.add(event)
            if head.offset > HEAD_BYTES:
                break
        self._tail = EventTail(self.run.events, _last_part_start(self.run.events, size))
        for event in self._tail.iterate():
            self._fold_live(event)
        self._whole = LiveState()
        self._whole_events = self._whole_tail.iterate()
        self.progress = 0.0

    def _fold_live(self, event: Event) -> None:
        if (
            (self.progress is not None or (self._whole is None and not self.live.stages))
            and isinstance(event, _STAGED)
            and event.stage not in self.live.stages
        ):
            self.live.assume_stages_until(event.stage)
        self.live.add(event)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _last_part_start(path: Path, size: int) -> int:
    """Return the offset of the first line in the log's last part; the log's end if it has none."""
    with path.open("rb") as file:
        start = max(size - TAIL_BYTES, 0)
        file.seek(start)
        newline = file.read(size - start).find(b"\n")
    return size if newline < 0 else start + newline + 1


@dataclass(frozen=True)
class RunSummary:
    """One line about a run."""

    run: RunDirectory
    profile: str
    state: str
    """running, paused, silent, dead, starting, or the final status."""
    last_event_s: float | None
    """Time of the newest event in seconds since the epoch."""
    stage: str
    step: int | None
    old: Score | None
    """Newest score of the first task."""
    new: Score | None
    """Newest score of the last task probed."""


class RunListReader:
    """Keeps summaries of the newest runs and updates one at a time."""

    def __init__(self) -> None:
        self._runs: list[RunDirectory] = []
        self._lines: dict[Path, RunSummary] = {}
        self._next = 0

    def read_some(self, present: RunDirectory, now_s: float) -> list[RunSummary]:
        """Read one more run and return all known summaries, newest first.

        Args:
            present: a run that is listed wherever its directory is.
            now_s: the present time in seconds since the epoch.
        """
        if self._next >= len(self._runs):
            runs = list_runs()[:RUNS_LISTED]
            if all(run.path != present.path for run in runs):
                runs.insert(0, present)
            self._runs, self._next = runs, 0
        run = self._runs[self._next]
        self._next += 1
        self._lines[run.path] = summarize_run(run, now_s)
        return [self._lines[run.path] for run in self._runs if run.path in self._lines]


def summarize_run(run: RunDirectory, now_s: float) -> RunSummary:
    """Return a run's summary; fields that can't be read are empty.

    Args:
        run: the run.
        now_s: the present time in seconds since the epoch, for the age of the heartbeat.
    """
    state = RunState()
    stage, step, scores = "", None, dict[str, Score]()
    for event in (*_head(run.events), *_end(run.events)):
        state.add(event)
        # The stage may have begun in the unread part.
        if isinstance(event, Step | Probe):
            stage, step = event.stage, event.step
        if isinstance(event, Probe | RunFinished):
            for task in event.metrics or {}:
                full = not isinstance(event, Probe) or event.full
                score = score_in((event.metrics or {})[task], state.metric(task), full=full)
                if score is not None:
                    scores[task] = score
    worker = probe_liveness(run, now_s).state
    shown = worker.value
    if state.finished is not None:
        shown = state.finished.status.replace("_", " ")
    elif worker is WorkerState.ALIVE:
        shown = "paused" if state.paused else "running"
    elif worker is WorkerState.FINISHED and step is not None:
        shown = "running"
    learned = [task for task in state.tasks if task in scores] or list(scores)
    return RunSummary(
        run,
        state.profile,
        shown,
        seconds_since_epoch(state.last_time),
        stage,
        step,
        scores.get(learned[0]) if learned else None,
        scores.get(learned[-1]) if len(learned) > 1 else None,
    )


def _head(path: Path) -> list[Event]:
    tail = EventTail(path)
    found = []
    try:
        for event in tail.iterate():
            found.append(event)
            if tail.offset > SUMMARY_HEAD_BYTES:
                break
    except OSError:
        # A list skips unreadable logs; `sf show` reports the reason.
        return []
    return found


def _end(path: Path) -> list[Event]:
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            if size <= SUMMARY_HEAD_BYTES:
                return []
            start = max(size - SUMMARY_END_BYTES, 0)
            file.seek(start)
            newline = file.read(SUMMARY_END_BYTES).find(b"\n")
        return [] if newline < 0 else EventTail(path, start + newline + 1).poll()
    except OSError:
        return []
