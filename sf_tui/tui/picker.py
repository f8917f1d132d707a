"""The picker: a full-screen list of this machine's runs, from which the operator chooses one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.filter import LineFilter, Monochrome, NoColor

from sf_tui.run.directory import RunDirectory, list_runs
from sf_tui.tui.driver import TerminalDriver
from sf_tui.tui.feed import RunSummary, summarize_run
from sf_tui.tui.lines import Line, as_many_as_fit
from sf_tui.tui.numbers import format_age
from sf_tui.tui.panels.lists import state_role
from sf_tui.tui.panels.panel import Panel, PrintableFilter
from sf_tui.tui.panels.score_words import score_text
from sf_tui.tui.sent_cells import SendsChangedCells
from sf_tui.tui.terminal import ConsoleOptions
from sf_tui.tui.theme import choose_glyphs, choose_paint, textual_theme
from sf_tui.tui.view_state import ViewState

RUNS_READ_FIRST = 30

_WIDE = 110
_SCORE_CELLS = {False: 6, True: 12}
"""Cells of a score without and with its interval."""


class RunTable(Panel):
    """One row per run; a pointer marks the chosen one.

    Attributes:
        runs: newest first.
        chosen: index of the chosen run.
        now_s: current time in seconds since the epoch, for ages.
    """

    TITLE: ClassVar[str] = "choose a run"

    def __init__(self, view: ViewState) -> None:
        super().__init__(view, id="table")
        self.runs: list[RunSummary] = []
        self.chosen = 0
        self.now_s = 0.0

    def title_right(self) -> Line:
        """Return the number of runs."""
        return [(f"{len(self.runs)} runs", "muted")]

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the rows around the chosen one, and the keys."""
        room = max(height - 3, 1)
        first = min(max(self.chosen - room + 1, 0), max(len(self.runs) - room, 0))
        cells = _SCORE_CELLS[width >= _WIDE]
        name_width = min(
            max((len(row.run.id) for row in self.runs), default=8), width - 28 - 2 * cells
        )
        header = (
            f"  {'run':<{name_width}}  {'state':<12} {'age':>6} "
            f"{'old':>{cells}} {'new':>{cells}}  stage"
        )
        lines: list[Line] = [[(header, "muted")]]
        for index in range(first, min(first + room, len(self.runs))):
            lines.append(self._row(self.runs[index], index == self.chosen, name_width, cells))
        lines += [[] for _ in range(height - len(lines) - 1)]
        keys: list[Line] = [
            [("up down", "key"), (" choose", "muted")],
            [("enter", "key"), (" attach", "muted")],
            [("q", "key"), (" leave", "muted")],
        ]
        return [*lines, as_many_as_fit(keys, width, "   ")]

    def _row(self, row: RunSummary, chosen: bool, name_width: int, cells: int) -> Line:
        glyphs = self.view.glyphs
        old, new = (
            score_text(self.view, score, interval=cells == _SCORE_CELLS[True])
            for score in (row.old, row.new)
        )
        name = row.run.id
        if len(name) > name_width:
            name = f"{glyphs.ellipsis}{name[-name_width + 1 :]}"
        age = None if row.last_event_s is None else self.now_s - row.last_event_s
        step = f"{row.stage}@{row.step}" if row.stage else ""
        return [
            (f"{glyphs.pointer if chosen else ' '} ", "strong"),
            (f"{name:<{name_width}}", "selected" if chosen else "text"),
            (f"  {row.state:<12.12} ", state_role(row.state)),
            (f"{format_age(age):>6} ", "muted"),
            (f"{old:>{cells}} ", "task-0"),
            (f"{new:>{cells}}  ", "task-1"),
            (step, "muted"),
        ]


class RunPicker(SendsChangedCells, App[RunDirectory], inherit_bindings=False):
    """An application that lists the runs and returns the chosen one, or None."""

    CSS_PATH = "console.tcss"
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    TITLE = "sf"

    def __init__(self, options: ConsoleOptions) -> None:
        super().__init__(driver_class=TerminalDriver)
        self.options = options
        self._printable = PrintableFilter()
        self.animation_level = "none"
        paint = choose_paint(no_color=options.no_color, light=options.light, lite=options.lite)
        self.send_changed_cells(short=options.lite, clears=not paint.background)
        self._waiting = list_runs()
        self._table = RunTable(
            ViewState(
                self._waiting[0],
                glyphs=choose_glyphs(ascii_only=options.ascii_only, lite=options.lite),
                paint=paint,
            )
        )
        self._table.now_s = options.wall_clock()
        self._read(RUNS_READ_FIRST)
        self.register_theme(textual_theme(paint))
        self.theme = paint.name

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Filter control characters, and colors if NO_COLOR is set."""
        filters = [self._printable, *super().get_line_filters()]
        if not self.options.no_color:
            return filters
        return [each for each in filters if not isinstance(each, Monochrome)] + [NoColor()]

    def compose(self) -> ComposeResult:
        """Compose the table."""
        yield self._table

    def on_mount(self) -> None:
        """Read the remaining runs after the first frame."""
        self.run_worker(self._read_all())

    def on_key(self, event: events.Key) -> None:
        """Choose, attach or leave."""
        event.stop()
        table = self._table
        if event.key in {"q", "escape", "ctrl+c"}:
            self.exit(None)
        elif event.key == "enter" and table.runs:
            self.exit(table.runs[table.chosen].run)
        else:
            page = max(self.size.height - 5, 1)
            step = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -page, "pagedown": page}
            moved = table.chosen + step.get(event.key, 0)
            table.chosen = min(max(moved, 0), max(len(table.runs) - 1, 0))
            table.update()

    def _read(self, count: int) -> None:
        now_s = self.options.wall_clock()
        rows = [summarize_run(run, now_s) for run in self._waiting[:count]]
        del self._waiting[:count]
        self._table.runs.extend(rows)

    async def _read_all(self) -> None:
        while self._waiting:
            self._read(1)
            await asyncio.sleep(0.005)
        self._table.update()
