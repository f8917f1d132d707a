"""Reads a run's event log for showing: the newest part at once, the rest a slice at a time.

A log of a million events is folded in the background while its tail is already on the screen and
goes on being followed. Knows files and time budgets; knows nothing of widgets.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sf_tui.run.commands import CommandTail
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import Event, EventTail
from sf_tui.run.regular_file import reason_of
from sf_tui.tui.record import Record

WHOLE_UP_TO_BYTES = 2_000_000
"""A log up to this size is folded before the first frame: about 0.1 s."""
HEAD_BYTES = 1 << 16
TAIL_BYTES = 1 << 19
"""Of a larger log, this much of its end is shown first: about 2,500 steps."""
POLL_BUDGET_S = 0.04
"""Longest time that one poll may keep the screen waiting."""
_STAGED = {"step", "probe", "drift", "stage_finished", "danger", "tasks_at_risk"}


class RunFeed:
    """Follows one run's event and command logs.

    Attributes:
        run: the run.
        record: what is known so far; replaced once when the whole history has been read.
        progress: share of the history that has been read, or None when all of it is known.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.record = Record()
        self.progress: float | None = None
        self._damaged_before = 0
        self._tail = EventTail(run.events)
        self._requests = CommandTail(run.commands)
        self._whole: Record | None = None
        self._whole_tail = EventTail(run.events)
        self._whole_events: Iterator[Event] | None = None
        size = _size_of(run.events)
        try:
            if size <= WHOLE_UP_TO_BYTES:
                for event in self._tail.iterate():
                    self.record.add(event)
            else:
                self._open_tail_first(size)
        except OSError as error:
            self.record.note_damage(1, f"{run.events}: can't be read: {reason_of(error)}")
        self._note_damage()
        self._poll_requests()

    def poll(self) -> bool:
        """Fold what was appended since the last poll; return whether anything was."""
        changed = self._poll_requests()
        deadline = time.perf_counter() + POLL_BUDGET_S
        with suppress(OSError):
            # A file system that is away for a moment: the next poll tries again.
            for event in self._tail.iterate():
                self._fold_live(event)
                changed = True
                if time.perf_counter() > deadline:
                    break
        return self._note_damage() or changed

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
        self._take_whole()
        return False

    def _take_whole(self) -> None:
        """Show the full history from now on and follow the log from where it ends."""
        assert self._whole is not None
        self._whole.version = self.record.version + 1
        self._whole.notables.version = self.record.notables.version + 1
        self.record = self._whole
        self._tail = self._whole_tail
        self._whole = None
        self._whole_events = None
        self._damaged_before = 0
        self.progress = None
        self._requests = CommandTail(self.run.commands)
        self._note_damage()
        self._poll_requests()

    def _note_damage(self) -> bool:
        """Tell the record of damaged lines; return whether there are more than before."""
        count = self._tail.unreadable + self._tail.gaps
        if count == self._damaged_before or not self._tail.damage:
            return False
        self._damaged_before = count
        self.record.note_damage(count, self._tail.damage[0].spell(self.run.events))
        return True

    def _open_tail_first(self, size: int) -> None:
        head = EventTail(self.run.events)
        for event in head.iterate():
            if event.get("type") == "run_started":
                self.record.add(event)
            if head.offset > HEAD_BYTES:
                break
        self._tail = EventTail(self.run.events, _line_start_behind(self.run.events, size))
        for event in self._tail.iterate():
            self._fold_live(event)
        self._whole = Record()
        self._whole_events = self._whole_tail.iterate()
        self.progress = 0.0

    def _fold_live(self, event: Event) -> None:
        stage = event.get("stage")
        if (
            self.progress is not None or (self._whole is None and not self.record.history.stages)
        ) and (
            isinstance(stage, str)
            and event.get("type") in _STAGED
            and stage not in self.record.history.stages
        ):
            self.record.suppose_stages_until(stage)
        self.record.add(event)

    def _poll_requests(self) -> bool:
        changed = False
        with suppress(OSError):
            for line in self._requests.poll():
                if "id" in line:
                    self.record.notables.add_request(line)
                    changed = True
        return changed


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _line_start_behind(path: Path, size: int) -> int:
    """Return the start of the first line in the log's last part; its end when that has none."""
    with path.open("rb") as file:
        start = max(size - TAIL_BYTES, 0)
        file.seek(start)
        newline = file.read(size - start).find(b"\n")
    return size if newline < 0 else start + newline + 1
