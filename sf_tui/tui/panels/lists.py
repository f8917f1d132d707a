"""The lists: a run's events, the end of the worker's log, and the runs of this machine.

Knows rows that were already read; opens no file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.message import Message

from sf_tui.run.directory import RunDirectory
from sf_tui.tui.activity import Entry, Kind
from sf_tui.tui.event_rows import FEWEST_ROWS_TO_PIN, EventRow, pinned
from sf_tui.tui.feed import RunSummary
from sf_tui.tui.lines import Line, Piece, join, line_width, wrap_cells
from sf_tui.tui.numbers import format_clock, format_duration
from sf_tui.tui.panels.panel import WHEEL_ROWS, Panel
from sf_tui.tui.panels.score_words import score_text
from sf_tui.tui.scores import score_now
from sf_tui.tui.view_state import ViewState
from sf_tui.tui.worker_log import line_contains
from sf_tui.vocabulary.measured import Score

_SCORE_CELLS = 11
_ROLES = {
    Kind.CHECKPOINT: "muted",
    Kind.ACTION: "ok",
    Kind.RULE: "ok",
    Kind.VERDICT: "strong",
}


class ListPanel(Panel):
    """A list that can be scrolled: by keys while it is chosen, and by the wheel."""

    can_focus = True

    def move(self, rows: int) -> None:
        """Move down, or up for a negative number of rows."""
        raise NotImplementedError

    def go_to_start(self) -> None:
        """Show the oldest row."""
        self.move(-1_000_000)

    def follow(self) -> None:
        """Show the newest row, and every newer one as it comes."""
        self.move(1_000_000)

    @property
    def page(self) -> int:
        """Rows that a page key moves."""
        return max(self.size.height - 2, 1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll towards older rows."""
        event.stop()
        self.move(-WHEEL_ROWS)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll towards newer rows."""
        event.stop()
        self.move(WHEEL_ROWS)


class Events(ListPanel):
    """One row per entry of the activity, newest last; alerts and verdicts stay in sight."""

    TITLE: ClassVar[str] = "events"
    HELP: ClassVar[str] = (
        "What was done and what happened, newest last. Checkpoints in a row are folded into one."
    )
    SIGNS: ClassVar[Sequence[tuple[str, str]]] = (
        ("!", "a warning or an error"),
        ("|", "pinned: the newest alerts and the newest verdict stay in sight"),
        ("abandoned", "a rollback has taken it back"),
        ("new@85", "stage new, step 85"),
    )

    class Opened(Message):
        """A row was opened, to be shown in full.

        Attributes:
            row: the row with the entry.
        """

        def __init__(self, row: EventRow) -> None:
            super().__init__()
            self.row = row

    def __init__(self, view: ViewState, *, id: str | None = None, classes: str = "") -> None:
        super().__init__(view, id=id, classes=classes)
        self._top = 0
        self._place_width = 0
        self._shown: list[EventRow] = []
        """The row behind each line of the body, from the last composition."""

    def title_right(self) -> Sequence[Piece]:
        """Return the filter and where the list is, or the key that opens the newest row."""
        view = self.view
        rows = self._rows()
        at = view.events.index(rows)
        parts: list[Line] = []
        if view.event_filter:
            parts.append(_filter_piece(view))
        if at is not None:
            parts.append([(f"{at + 1} of {len(rows)}", "text")])
            parts.append([("enter", "key"), (" open", "muted")])
            parts.append([("end", "key"), (" follow", "muted")])
        return join(parts)

    def move(self, rows: int) -> None:
        """Choose another row."""
        self.view.events.move(self._rows(), rows)
        self.update()

    def click(self, x: int, row: int) -> None:
        """Choose the row at the pointer; open it if it is chosen."""
        del x
        if not 0 <= row < len(self._shown):
            return
        clicked = self._shown[row]
        if any(entry is self.view.events.chosen for entry in clicked.entries):
            self.post_message(self.Opened(clicked))
        self.view.events.chosen = clicked.main
        self.update()

    def _rows(self) -> list[EventRow]:
        return self.view.events.rows(self.view.live.activity, self.view.event_filter)

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the pinned rows and the rows at the chosen one, else the newest ones.

        Warnings and errors are wrapped, as far as there is room for them: their end says what to
        do. A pinned row is cut, and can be opened.
        """
        view = self.view
        rows = self._rows()
        if not rows:
            wanted = view.event_filter
            reason = f"none contains '{wanted}'" if wanted else "nothing yet"
            return [[(f"  {reason}", "muted")]]
        most = height - 2 if height >= FEWEST_ROWS_TO_PIN else 0
        notable = pinned(view.live.activity, view.event_filter.lower(), most) if most > 0 else []
        self._place_width = max(min(len(_place(row.main)), 16) for row in (*notable, *rows))
        kept: list[EventRow] = []
        body = self._window(rows, width, height)
        # A pinned row takes the place of another one, which may be the next to pin.
        for _ in notable:
            shown = {id(entry) for row, _ in body for entry in row.entries}
            missing = [row for row in notable if id(row.main) not in shown]
            if len(missing) <= len(kept):
                break
            kept = missing
            body = self._window(rows, width, height - len(kept))
        top = [(row, self._row(row, pin=True)) for row in kept]
        self._shown = [row for row, _ in (*top, *body)]
        return [line for _, line in (*top, *body)]

    def _window(
        self, rows: Sequence[EventRow], width: int, height: int
    ) -> list[tuple[EventRow, Line]]:
        """Return the lines in sight, each with its row."""
        at = self.view.events.index(rows)
        if height <= 0:
            return []
        if at is None:
            self._top = max(len(rows) - height, 0)
            return self._lines_up_to(rows, len(rows), width, height)
        self._top = min(max(self._top, at - height + 1), at)
        lines: list[tuple[EventRow, Line]] = []
        for row in rows[self._top :]:
            lines += [(row, line) for line in self._wrapped(row, width)]
            if len(lines) >= height:
                break
        if any(row is rows[at] for row, _ in lines[:height]):
            return lines[:height]
        # Long rows above it push it out.
        return self._lines_up_to(rows, at + 1, width, height)

    def _lines_up_to(
        self, rows: Sequence[EventRow], end: int, width: int, height: int
    ) -> list[tuple[EventRow, Line]]:
        lines: list[tuple[EventRow, Line]] = []
        for row in reversed(rows[max(end - height, 0) : end]):
            wrapped = self._wrapped(row, width)
            left = height - len(lines)
            if left <= 0:
                break
            lines = [*((row, line) for line in wrapped[:left]), *lines]
        return lines

    def _wrapped(self, row: EventRow, width: int) -> list[Line]:
        """Return a row's lines: several for a long warning, below where its text begins."""
        line = self._row(row)
        indent = line_width(line[:3])
        loud = row.main.level in {"warn", "error"}
        if not loud or line_width(line) <= width or width < 2 * indent:
            return [line]
        text, role = line[3]
        first, *more = wrap_cells(text, width - indent)
        below = " " * indent
        return [[*line[:3], (first, role)], *([(below, role), (each, role)] for each in more)]

    def _row(self, row: EventRow, *, pin: bool = False) -> Line:
        view, entry, place_width = self.view, row.main, self._place_width
        role = {"warn": "warn", "error": "error"}.get(entry.level, _ROLES.get(entry.kind, "text"))
        loud = entry.level in {"warn", "error"} and not entry.abandoned
        role = "faint" if entry.abandoned else role
        left = "abandoned: " if entry.abandoned else ""
        beside = "muted"
        if any(each is view.events.chosen for each in row.entries):
            role = beside = "selected"
        line = [
            (f"{view.glyphs.wall if pin else ' '}{format_clock(entry.time, view.zone)} ", beside),
            (f"{_place(entry)[:place_width]:<{place_width}} ", beside),
            ("! " if loud else "  ", role),
            (f"{left}{view.glyphs.spell(row.text)}", role),
        ]
        work = view.work
        if work is not None and entry is view.newest.activity.worked_on():
            line.append((f" {view.glyphs.ellipsis} {format_duration(int(work[1]))}", role))
        if entry.asked_by:
            # Last: a narrow row is cut at its end, and the answer matters more.
            line.append((f", by {view.glyphs.spell(entry.asked_by)}", beside))
        return line


def _filter_piece(view: ViewState) -> Line:
    return [(f"filter: {view.event_filter}", "strong"), (" (esc)", "muted")]


def _place(row: Entry) -> str:
    return f"{row.stage}@{row.step}" if row.stage and row.step is not None else ""


class WorkerLog(ListPanel):
    """The lines of `worker.log`, newest last."""

    TITLE: ClassVar[str] = "worker log"
    HELP: ClassVar[str] = "What the training process printed; `sf log RUN --worker` has all of it."

    def title_right(self) -> Sequence[Piece]:
        """Return the filter, and where the list is unless it follows the newest line."""
        view = self.view
        parts: list[Line] = [_filter_piece(view)] if view.event_filter else []
        if view.log_end is not None:
            whole = view.log_dropped + len(view.log_lines)
            parts.append([(f"line {view.log_end} of {whole}", "text")])
            parts.append([("end", "key"), (" follow", "muted")])
        return join(parts)

    def _numbers(self) -> Sequence[int]:
        """Return the numbers of the lines that the filter leaves, from 1."""
        view = self.view
        first = view.log_dropped + 1
        if not view.event_filter:
            return range(first, first + len(view.log_lines))
        return [
            first + at
            for at, line in enumerate(view.log_lines)
            if line_contains(line, view.event_filter)
        ]

    def _end(self, numbers: Sequence[int]) -> int:
        """Return how many of the lines are above the end of what is shown."""
        end = self.view.log_end
        return len(numbers) if end is None else bisect_right(numbers, end)

    def move(self, rows: int) -> None:
        """Move the last line that is shown."""
        numbers = self._numbers()
        fewest = min(max(self.size.height - 1, 1), len(numbers))
        end = max(self._end(numbers) + rows, fewest)
        self.view.log_end = numbers[end - 1] if end < len(numbers) else None
        self.update()

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the last lines, wrapped, or a line that says why there are none."""
        view = self.view
        if not view.log_lines:
            return [[("  the worker has printed nothing", "muted")]]
        numbers = self._numbers()
        if not numbers:
            return [[(f"  none contains '{view.event_filter}'", "muted")]]
        end = max(self._end(numbers), 1)
        shown = numbers[max(end - height, 0) : end]
        lines = [view.log_lines[number - view.log_dropped - 1] for number in shown]
        wrapped = [part for line in lines for part in _wrapped_log(line, width - 1)]
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
