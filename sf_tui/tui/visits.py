"""The runs that one console has shown: from a run opened out of another, escape leads back.

A visit keeps what was read of a run and how it was looked at; nothing is followed meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from sf_tui.run.directory import RunDirectory
from sf_tui.tui.actions import read_actions
from sf_tui.tui.feed import RunFeed
from sf_tui.tui.machine import Machine
from sf_tui.tui.view_state import ViewState
from sf_tui.tui.worker_log import WorkerLogTail


@dataclass
class Visit:
    """One run as the console shows it.

    Attributes:
        view: its state and how it is looked at.
        feed: follows its logs.
        worker_log: follows its worker's output.
        machine: samples its worker's machine.
    """

    view: ViewState
    feed: RunFeed
    worker_log: WorkerLogTail
    machine: Machine

    @classmethod
    def begin(cls, run: RunDirectory, before: ViewState) -> Visit:
        """Return the first visit of a run."""
        feed = RunFeed(run)
        view = ViewState(
            run,
            newest=feed.live,
            actions=read_actions(run),
            progress=feed.progress,
            read_only=before.read_only,
            log_loss=before.log_loss,
            pin_task=before.pin_task,
            glyphs=before.glyphs,
            zone=before.zone,
        )
        return cls(view, feed, WorkerLogTail(run.worker_log), Machine())

    def take_over(self, before: ViewState) -> None:
        """Take over what belongs to the console, not to the run shown before."""
        view = self.view
        view.paint, view.pins, view.runs = before.paint, before.pins, before.runs
        view.now_s, view.notice = before.now_s, ""


class Visits:
    """The way from the first run to the present one."""

    def __init__(self) -> None:
        self._before: list[Visit] = []

    def __len__(self) -> int:
        return len(self._before)

    def leave_for(self, run: RunDirectory, here: Visit) -> Visit:
        """Return the visit of a run, an earlier one if the way here led through it."""
        for index, visit in enumerate(self._before):
            if visit.view.run.path == run.path:
                del self._before[index:]
                return visit
        self._before.append(here)
        return Visit.begin(run, here.view)

    def go_back(self) -> Visit | None:
        """Return the visit before this one; None at the first run."""
        return self._before.pop() if self._before else None
