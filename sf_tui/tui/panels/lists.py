"""The lists: a run's events, the end of the worker's log, and the runs of this machine.

Knows rows that were already read; opens no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sf_tui.tui.activity import Entry, Kind
from sf_tui.tui.feed import RunSummary
from sf_tui.tui.lines import Line, Piece
from sf_tui.tui.numbers import format_clock, format_duration, format_share
from sf_tui.tui.panels.panel import Panel

_ROLES = {
    Kind.CHECKPOINT: "muted",
    Kind.ACTION: "ok",
    Kind.RULE: "ok",
    Kind.VERDICT: "strong",
}


class Events(Panel):
    """One row per entry of the activity, newest last."""

    TITLE: ClassVar[str] = "events"
    can_focus = True

    def title_right(self) -> Sequence[Piece]:
        """Return the filter."""
        text = self.view.event_filter
        return ((f"filter: {text}", "strong"), (" (/)", "muted")) if text else ()

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the newest rows, or a line that explains why there are none."""
        del width
        view = self.view
        wanted = view.event_filter.lower()
        rows = [row for row in view.live.activity.rows if not wanted or row.contains(wanted)]
        if not rows:
            reason = f"none contains '{view.event_filter}'" if wanted else "nothing yet"
            return [[(f"  {reason}", "muted")]]
        shown = rows[-height:]
        place_width = min(max((len(_place(row)) for row in shown), default=0), 16)
        return [self._row(row, place_width) for row in shown]

    def _row(self, row: Entry, place_width: int) -> Line:
        role = {"warn": "warn", "error": "error"}.get(row.level, _ROLES.get(row.kind, "text"))
        loud = row.level in {"warn", "error"}
        line = [
            (f" {format_clock(row.time, self.view.zone)} ", "muted"),
            (f"{_place(row)[:place_width]:<{place_width}} ", "muted"),
            ("! " if loud else "  ", role),
            (self.view.glyphs.spell(row.text), role),
        ]
        work = self.view.work
        if work is not None and row is self.view.live.activity.worked_on():
            line.append((f" {self.view.glyphs.ellipsis} {format_duration(int(work[1]))}", role))
        if row.asked_by:
            # Last: a narrow row is cut at its end, and the answer matters more.
            line.append((f", by {self.view.glyphs.spell(row.asked_by)}", "muted"))
        return line


def _place(row: Entry) -> str:
    return f"{row.stage}@{row.step}" if row.stage and row.step is not None else ""


class WorkerLog(Panel):
    """The last lines of `worker.log`."""

    TITLE: ClassVar[str] = "worker log"
    can_focus = True

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the last lines, or a line that says the log is empty."""
        del width
        lines = self.view.log_lines
        if not lines:
            return [[("  the worker has printed nothing", "muted")]]
        return [[(f" {line}", "muted")] for line in lines[-height:]]


class RunList(Panel):
    """One row per run, newest first; a pointer marks this run."""

    TITLE: ClassVar[str] = "runs"
    IS_CHART: ClassVar[bool] = True

    def title_right(self) -> Sequence[Piece]:
        """Return the columns' names."""
        return (("old   new   state    ", "muted"),)

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the runs."""
        runs = self.view.runs
        if not runs:
            return [[("  no other run is known", "muted")]]
        return [self._row(run, width) for run in runs[:height]]

    def _row(self, summary: RunSummary, width: int) -> Line:
        view = self.view
        here = summary.run.path == view.run.path
        pointer = view.glyphs.pointer if here else " "
        name_width = max(width - 24, 8)
        name = summary.run.id
        if len(name) > name_width:
            name = f"{view.glyphs.ellipsis}{name[-name_width + 1 :]}"
        return [
            (f"{pointer} ", "strong"),
            (f"{name:<{name_width}}", "strong" if here else "text"),
            (f" {format_share(summary.old_accuracy):>5}", "task-0"),
            (f" {format_share(summary.new_accuracy):>5}", "task-1"),
            (f" {summary.state[:9]:<9}", state_role(summary.state)),
        ]


def state_role(state: str) -> str:
    """Return the role that paints a run's state."""
    if state in {"running", "completed"}:
        return "ok"
    return "danger" if state in {"dead", "silent", "failed", "guard failed"} else "muted"
