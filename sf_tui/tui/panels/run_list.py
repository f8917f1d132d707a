"""The run list of wide screens: every run's state and its old and new accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sf_tui.tui.lines import Line, Piece
from sf_tui.tui.numbers import format_share
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.summary import RunSummary


class RunList(Panel):
    """One row a run, newest first; this one is pointed at."""

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
    """Return how a run's state is painted."""
    if state in {"running", "completed"}:
        return "ok"
    return "danger" if state in {"dead", "silent", "failed", "guard failed"} else "muted"
