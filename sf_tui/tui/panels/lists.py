"""The lists: a run's events, the end of the worker's log, and the runs of this machine.

Knows rows that were already read; opens no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.message import Message

from sf_tui.run.directory import RunDirectory
from sf_tui.tui.activity import Entry, Kind
from sf_tui.tui.feed import RunSummary
from sf_tui.tui.lines import Line, Piece, line_width, wrap_cells
from sf_tui.tui.numbers import format_clock, format_duration
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.score_words import score_text
from sf_tui.tui.scores import score_now
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.measured import Score

_SCORE_CELLS = 11
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
        """Return the newest rows, or a line that explains why there are none.

        Warnings and errors are wrapped: their end says what to do.
        """
        view = self.view
        wanted = view.event_filter.lower()
        rows = [row for row in view.live.activity.rows if not wanted or row.contains(wanted)]
        if not rows:
            reason = f"none contains '{view.event_filter}'" if wanted else "nothing yet"
            return [[(f"  {reason}", "muted")]]
        shown = rows[-height:] if height > 0 else []
        place_width = min(max((len(_place(row)) for row in shown), default=0), 16)
        lines: list[Line] = []
        for row in reversed(shown):
            wrapped = self._wrapped(self._row(row, place_width), row, width)
            left = height - len(lines)
            if left <= 0:
                break
            lines = [*wrapped[:left], *lines]
        return lines

    def _wrapped(self, line: Line, row: Entry, width: int) -> list[Line]:
        """Return a row's lines: several for a long warning, below where its text begins."""
        indent = line_width(line[:3])
        if row.level not in {"warn", "error"} or line_width(line) <= width or width < 2 * indent:
            return [line]
        text, role = line[3]
        first, *more = wrap_cells(text, width - indent)
        below = " " * indent
        return [[*line[:3], (first, role)], *([(below, role), (each, role)] for each in more)]

    def _row(self, row: Entry, place_width: int) -> Line:
        role = {"warn": "warn", "error": "error"}.get(row.level, _ROLES.get(row.kind, "text"))
        loud = row.level in {"warn", "error"} and not row.abandoned
        role = "faint" if row.abandoned else role
        left = "abandoned: " if row.abandoned else ""
        line = [
            (f" {format_clock(row.time, self.view.zone)} ", "muted"),
            (f"{_place(row)[:place_width]:<{place_width}} ", "muted"),
            ("! " if loud else "  ", role),
            (f"{left}{self.view.glyphs.spell(row.text)}", role),
        ]
        work = self.view.work
        if work is not None and row is self.view.newest.activity.worked_on():
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
        """Return the last lines, wrapped, or a line that says the log is empty."""
        lines = self.view.log_lines
        if not lines:
            return [[("  the worker has printed nothing", "muted")]]
        wrapped = [part for line in lines[-height:] for part in _wrapped_log(line, width - 1)]
        return [[(f" {part}", "muted")] for part in wrapped[-height:]]


def _wrapped_log(line: str, width: int) -> list[str]:
    """Return a line of a log as lines that fit; one that fits keeps its blanks."""
    return [line] if cell_len(line) <= width else wrap_cells(line, width)


class RunList(Panel):
    """One row per run, newest first; a pointer marks this run."""

    TITLE: ClassVar[str] = "runs"
    IS_CHART: ClassVar[bool] = True
    can_focus = True

    class Opened(Message):
        """A run was chosen.

        Attributes:
            run: the run.
        """

        def __init__(self, run: RunDirectory) -> None:
            super().__init__()
            self.run = run

    def __init__(self, view: ViewState, *, id: str | None = None) -> None:
        super().__init__(view, id=id)
        self._chosen: Path | None = None

    def on_key(self, event: events.Key) -> None:
        """Choose a run with the arrows, and open it with enter."""
        paths = [summary.run.path for summary in self.view.runs]
        step = {"up": -1, "k": -1, "down": 1, "j": 1}.get(event.key)
        if not paths or (step is None and event.key != "enter"):
            return
        event.stop()
        at = self._index(paths)
        if step is None:
            self.post_message(self.Opened(RunDirectory(paths[at])))
        else:
            self._chosen = paths[min(max(at + step, 0), len(paths) - 1)]
            self.update()

    def _index(self, paths: Sequence[Path]) -> int:
        """Return the row of the chosen run: at first, and if it is gone, the shown run's."""
        for path in (self._chosen, self.view.run.path):
            if path is not None and path in paths:
                return paths.index(path)
        return 0

    def title_right(self) -> Sequence[Piece]:
        """Return the columns' names."""
        return ((f"{'old':<{_SCORE_CELLS}} {'new':<{_SCORE_CELLS}} state    ", "muted"),)

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the runs."""
        runs = self.view.runs
        if not runs:
            return [[("  no other run is known", "muted")]]
        chosen = self._index([summary.run.path for summary in runs]) if self.has_focus else -1
        first = max(chosen - height + 1, 0)
        rows = range(first, min(first + height, len(runs)))
        return [self._row(runs[index], width, chosen=index == chosen) for index in rows]

    def _row(self, summary: RunSummary, width: int, *, chosen: bool) -> Line:
        view = self.view
        here = summary.run.path == view.run.path
        pointer = view.glyphs.pointer if here else " "
        name_width = max(width - 14 - 2 * _SCORE_CELLS, 8)
        name = summary.run.id
        if len(name) > name_width:
            name = f"{view.glyphs.ellipsis}{name[-name_width + 1 :]}"
        old, new = self._of_this_run() if here else (summary.old, summary.new)
        return [
            (f"{pointer} ", "strong"),
            (f"{name:<{name_width}}", "selected" if chosen else "strong" if here else "text"),
            (f" {score_text(view, old):>{_SCORE_CELLS}}", "task-0"),
            (f" {score_text(view, new):>{_SCORE_CELLS}}", "task-1"),
            (f" {summary.state[:9]:<9}", state_role(summary.state)),
        ]

    def _of_this_run(self) -> tuple[Score | None, Score | None]:
        """Return this run's scores of the same instant as the other panels."""
        scores = [score_now(self.view, task) for task in self.view.tasks]
        found = [score for score in scores if score is not None]
        return (found[0] if found else None, found[-1] if len(found) > 1 else None)


def state_role(state: str) -> str:
    """Return the role that paints a run's state."""
    if state in {"running", "completed"}:
        return "ok"
    return "danger" if state in {"dead", "silent", "failed", "guard failed"} else "muted"
