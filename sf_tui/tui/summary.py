"""One line about a run for lists: its state, its age, and old and new accuracy.

Reads only the beginning and the end of its event log, so that a list of many long runs is quick.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sf_tui.run.directory import RunDirectory, list_runs
from sf_tui.run.durable import open_regular
from sf_tui.run.events import EventTail
from sf_tui.run.liveness import WorkerState, probe_liveness
from sf_tui.run.state import RunState
from sf_tui.tui.numbers import seconds_since_epoch
from sf_tui.vocabulary.events import Event, Probe, RunFinished, Step

RUNS_LISTED = 40
"""Runs that a list shows at most, newest first."""
_HEAD_BYTES = 1 << 14
_END_BYTES = 1 << 16


@dataclass(frozen=True)
class RunSummary:
    """What a list says of a run."""

    run: RunDirectory
    profile: str
    state: str
    """running, paused, silent, dead, starting, or how the run finished."""
    last_event_s: float | None
    """Seconds since the epoch of the newest event."""
    stage: str
    step: int | None
    old_accuracy: float | None
    """Of the first task."""
    new_accuracy: float | None
    """Of the last task probed."""


class RunListReader:
    """Keeps lines about the newest runs, one of them read anew at a time."""

    def __init__(self) -> None:
        self._runs: list[RunDirectory] = []
        self._lines: dict[Path, RunSummary] = {}
        self._next = 0

    def read_some(self, present: RunDirectory, now_s: float) -> list[RunSummary]:
        """Read one more run and return all that are known, newest first.

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
    stage, step, values = "", None, dict[str, float]()
    for event in (*_head(run.events), *_end(run.events)):
        state.add(event)
        # The stage may have begun in the part that is not read.
        if isinstance(event, Step | Probe):
            stage, step = event.stage, event.step
        if isinstance(event, Probe | RunFinished):
            for task in event.metrics or {}:
                value = state.value_of(task, event.metrics or {})
                if value is not None:
                    values[task] = value
    worker = probe_liveness(run, now_s).state
    shown = worker.value
    if state.finished is not None:
        shown = state.finished.status.replace("_", " ")
    elif worker is WorkerState.ALIVE:
        shown = "paused" if state.paused else "running"
    elif worker is WorkerState.FINISHED and step is not None:
        shown = "running"
    learned = [task for task in state.tasks if task in values] or list(values)
    return RunSummary(
        run,
        state.profile,
        shown,
        seconds_since_epoch(state.last_time),
        stage,
        step,
        values.get(learned[0]) if learned else None,
        values.get(learned[-1]) if len(learned) > 1 else None,
    )


def _head(path: Path) -> list[Event]:
    tail = EventTail(path)
    found = []
    try:
        for event in tail.iterate():
            found.append(event)
            if tail.offset > _HEAD_BYTES:
                break
    except OSError:
        # A list leaves out what can't be read; `sf show` says why it can't.
        return []
    return found


def _end(path: Path) -> list[Event]:
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            if size <= _HEAD_BYTES:
                return []
            start = max(size - _END_BYTES, 0)
            file.seek(start)
            newline = file.read(_END_BYTES).find(b"\n")
        return [] if newline < 0 else EventTail(path, start + newline + 1).poll()
    except OSError:
        return []
