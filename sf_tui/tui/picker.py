"""The picker: a full-screen list of this machine's runs, from which the operator chooses one.

It opens before a console, or inside one (`R`), where runs can be pinned as well. Knows nothing of
what is done with the choice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.filter import LineFilter, Monochrome, NoColor
from textual.screen import Screen

from sf_tui.run.directory import RunDirectory, list_runs
from sf_tui.run.labels import read_labels
from sf_tui.tui.driver import TerminalDriver
from sf_tui.tui.feed import RunSummary, summarize_run
from sf_tui.tui.lines import Line, as_many_as_fit
from sf_tui.tui.numbers import format_age
from sf_tui.tui.panels.lists import state_role
from sf_tui.tui.panels.panel import Panel, PrintableFilter
from sf_tui.tui.panels.score_words import score_text
from sf_tui.tui.pins import MOST_PINNED, PinnedRuns
from sf_tui.tui.sent_cells import SendsChangedCells
from sf_tui.tui.terminal import ConsoleOptions
from sf_tui.tui.theme import choose_glyphs, choose_paint, textual_theme
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.sizes import counted

RUNS_READ_FIRST = 30
READ_AGAIN_EVERY_S = 0.25
"""Interval between two runs that are read again, to keep the list up to date."""

_WIDE = 110
_WITH_STAGE = 90
_SCORE_CELLS = {False: 6, True: 12}
"""Cells of a score without and with its interval."""
_MOST_TYPED = 80


@dataclass(frozen=True)
class RunRow:
    """A run with the name that people gave it."""

    summary: RunSummary
    name: str

    def contains(self, words: str) -> bool:
        """Return whether every word is part of what identifies the run, in lower case."""
        row = self.summary
        text = " ".join((row.run.id, self.name, row.profile, row.state, row.stage)).lower()
        return all(word in text for word in words.split())


class RunTable(Panel):
    """One row per run; a pointer marks the chosen one.

    Attributes:
        rows: newest first.
        chosen: index of the chosen run among the shown ones.
        now_s: current time in seconds since the epoch, for ages.
        filter: words that shown runs contain; empty for all.
        typing: whether the filter is being typed.
        helping: whether the keys are explained instead of the runs.
        pins: the pinned runs; None where none can be pinned.
        remark: why the last key did nothing; empty if it did.
    """

    TITLE: ClassVar[str] = "choose a run"

    def __init__(self, view: ViewState, pins: PinnedRuns | None = None) -> None:
        super().__init__(view, id="table")
        self.rows: list[RunRow] = []
        self.chosen = 0
        self.now_s = 0.0
        self.filter = ""
        self.typing = False
        self.helping = False
        self.pins = pins
        self.remark = ""

    @property
    def shown(self) -> list[RunRow]:
        """The rows that fit the filter."""
        words = self.filter.lower()
        return [row for row in self.rows if row.contains(words)] if words else self.rows

    @property
    def run(self) -> RunDirectory | None:
        """The chosen run; None if no run is shown."""
        shown = self.shown
        return shown[min(self.chosen, len(shown) - 1)].summary.run if shown else None

    def choose(self, index: int) -> None:
        """Move the pointer to a row, or to the nearest one that there is."""
        self.chosen = min(max(index, 0), max(len(self.shown) - 1, 0))

    def title_right(self) -> Line:
        """Return the number of runs, and the filter."""
        shown, count = len(self.shown), len(self.rows)
        runs = counted(count, "run")
        text = f"{shown} of {runs}" if self.filter else runs
        found: Line = [(text, "muted")]
        if self.filter and not self.typing:
            found = [(f"filter: {self.filter}", "strong"), (" (/)   ", "muted"), *found]
        return found

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the rows around the chosen one, and the keys."""
        if self.helping:
            return self._help(height)
        shown = self.shown
        room = max(height - 3, 1)
        first = min(max(self.chosen - room + 1, 0), max(len(shown) - room, 0))
        cells = _SCORE_CELLS[width >= _WIDE]
        longest = max((len(self._called(row)) for row in shown), default=8)
        name_width = max(min(longest, width - 34 - 2 * cells), 8)
        header = (
            f"   {'run':<{name_width}}  {'state':<12} {'last event':>10} "
            f"{'old':>{cells}} {'new':>{cells}}{'  stage' if width >= _WITH_STAGE else ''}"
        )
        lines: list[Line] = [[(header, "muted")]]
        for index in range(first, min(first + room, len(shown))):
            lines.append(self._row(shown[index], index == self.chosen, name_width, width))
        if not shown:
            none = f"none contains '{self.filter}'" if self.rows else "no run yet"
            lines.append([(f"   {none}", "muted")])
        lines += [[] for _ in range(height - len(lines) - 1)]
        if self.typing:
            asked: Line = [("filter: ", "muted"), (self.filter, "strong"), (" ", "cursor")]
            return [*lines, [*asked, ("   enter keeps it, esc clears it", "muted")]]
        if self.remark:
            return [*lines, [(self.remark, "warn")]]
        return [*lines, as_many_as_fit(self._keys(), width, "   ")]

    def _keys(self) -> list[Line]:
        inside = self.pins is not None
        keys = [
            ("enter", "open" if inside else "attach"),
            ("esc", "back" if inside else "leave"),
            ("/", "filter"),
            ("?", "help"),
            ("up down", "choose"),
        ]
        if inside:
            keys.insert(2, ("space", "pin or unpin"))
        return [[(key, "key"), (f" {does}", "muted")] for key, does in keys]

    def _help(self, height: int) -> list[Line]:
        page = [
            ("enter", "open the console of the chosen run"),
            ("up down k j", "choose; also page up, page down, home, end"),
            ("/", "show only runs whose id, name, profile, state or stage has these words"),
            ("esc", "clear the filter; else go back"),
            ("q", "go back"),
            ("last event", "how long ago the run last wrote to its log"),
            ("old, new", "newest scores of the first and the last task learned"),
            ("±", "half of the 95 % interval, on a wide screen"),
        ]
        if self.pins is not None:
            page.insert(
                1,
                (
                    "space",
                    f"pin the run: its curves lie over those of the open one; up to {MOST_PINNED}",
                ),
            )
            page.insert(2, ("u", "unpin all"))
        lines: list[Line] = [[(f"  {key:<12} ", "key"), (does, "text")] for key, does in page]
        return [*lines[: max(height - 1, 0)], [("any key closes this", "muted")]]

    def _called(self, row: RunRow) -> str:
        run = row.summary.run.id
        return f"{row.name} ({run})" if row.name else run

    def _row(self, row: RunRow, chosen: bool, name_width: int, width: int) -> Line:
        glyphs, summary = self.view.glyphs, row.summary
        cells, wide = _SCORE_CELLS[width >= _WIDE], width >= _WITH_STAGE
        old, new = (
            score_text(self.view, score, interval=cells == _SCORE_CELLS[True])
            for score in (summary.old, summary.new)
        )
        name = self._called(row)
        if len(name) > name_width:
            name = f"{glyphs.ellipsis}{name[-name_width + 1 :]}"
        age = None if summary.last_event_s is None else self.now_s - summary.last_event_s
        step = f"{summary.stage}@{summary.step}" if summary.stage else ""
        pin = self.pins.sign_of(summary.run) if self.pins is not None else ""
        return [
            (glyphs.pointer if chosen else " ", "strong"),
            (f"{pin or ' '} ", "key"),
            (f"{name:<{name_width}}", "selected" if chosen else "text"),
            (f"  {summary.state:<12.12} ", state_role(summary.state)),
            (f"{format_age(age):>10} ", "muted"),
            (f"{old:>{cells}} ", "task-0"),
            (f"{new:>{cells}}  ", "task-1"),
            (step if wide else "", "muted"),
        ]


class PickerScreen(Screen[RunDirectory], inherit_bindings=False):
    """The list of runs as a screen; it is dismissed with the chosen run, or None.

    Args:
        view: paints and glyphs, and the run that the console shows.
        wall_clock: seconds since the epoch.
        pins: the console's pinned runs; None where none can be pinned.
        chosen: the run that the pointer starts at; None: the newest.
    """

    def __init__(
        self,
        view: ViewState,
        wall_clock: Callable[[], float],
        *,
        pins: PinnedRuns | None = None,
        chosen: RunDirectory | None = None,
    ) -> None:
        super().__init__()
        self._clock = wall_clock
        self._waiting = list_runs()
        self._pointed = chosen
        self.table = RunTable(view, pins)
        self.table.now_s = wall_clock()
        self._read(RUNS_READ_FIRST)

    def compose(self) -> ComposeResult:
        """Compose the table."""
        yield self.table

    def on_mount(self) -> None:
        """Read the remaining runs after the first frame."""
        self.run_worker(self._read_all())

    def on_key(self, event: events.Key) -> None:
        """Handle every key; none reaches a console below."""
        event.stop()
        event.prevent_default()
        if self.app.screen is not self:
            # Pressed right behind the key that left it.
            return
        table, key = self.table, event.key
        table.remark = ""
        if key == "ctrl+c":
            self.dismiss(None)
            return
        if table.helping:
            table.helping = False
        elif table.typing:
            self._type(event)
        elif event.character == "/":
            table.typing = True
        elif event.character == "?":
            table.helping = True
        elif key == "escape" and table.filter:
            self._filter("")
        elif key in {"q", "escape"}:
            self.dismiss(None)
            return
        elif key == "enter":
            if table.run is not None:
                self.dismiss(table.run)
            return
        elif table.pins is not None and key == "space" and table.run is not None:
            self._pin(table.pins, table.run)
        elif table.pins is not None and key == "u":
            table.pins.clear()
        else:
            self._move(key)
        table.update()

    def _pin(self, pins: PinnedRuns, run: RunDirectory) -> None:
        self.table.remark = pins.toggle(run)

    def on_paste(self, event: events.Paste) -> None:
        """Add pasted text to a filter that is being typed."""
        event.stop()
        if self.table.typing:
            self._filter(self.table.filter + " ".join(event.text.split()))
            self.table.update()

    def _type(self, event: events.Key) -> None:
        table = self.table
        if event.key == "enter":
            table.typing = False
        elif event.key == "escape":
            table.typing = False
            self._filter("")
        elif event.key in {"backspace", "ctrl+h"}:
            self._filter(table.filter[:-1])
        elif event.key == "ctrl+u":
            self._filter("")
        elif event.character and event.character.isprintable():
            self._filter(table.filter + event.character)
        else:
            self._move(event.key)

    def _filter(self, text: str) -> None:
        """Change the filter and keep the pointer on its run, if that is still shown."""
        table, run = self.table, self.table.run
        table.filter = text[:_MOST_TYPED]
        paths = [row.summary.run.path for row in table.shown]
        table.choose(paths.index(run.path) if run is not None and run.path in paths else 0)

    def _move(self, key: str) -> None:
        table, page = self.table, max(self.size.height - 5, 1)
        step = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -page, "pagedown": page}
        far = {"home": -len(table.rows), "end": len(table.rows), "G": len(table.rows)}
        table.choose(table.chosen + (step | far).get(key, 0))

    def _read(self, count: int) -> None:
        table = self.table
        for run in self._waiting[:count]:
            table.rows.append(_row_of(run, table.now_s))
            if self._pointed is not None and run.path == self._pointed.path:
                table.choose(len(table.rows) - 1)
        del self._waiting[:count]

    async def _read_all(self) -> None:
        while self._waiting:
            self._read(1)
            await asyncio.sleep(0.005)
        table = self.table
        table.update()
        index = 0
        while table.rows:
            await asyncio.sleep(READ_AGAIN_EVERY_S)
            index = (index + 1) % len(table.rows)
            table.now_s = self._clock()
            table.rows[index] = _row_of(table.rows[index].summary.run, table.now_s)
            table.update()


def _row_of(run: RunDirectory, now_s: float) -> RunRow:
    return RunRow(summarize_run(run, now_s), read_labels(run.path)[0].name)


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
        self.send_changed_cells(clears=not paint.background)
        self._view = ViewState(
            list_runs()[0],
            glyphs=choose_glyphs(ascii_only=options.ascii_only, lite=options.lite),
            paint=paint,
        )
        self.register_theme(textual_theme(paint))
        self.theme = paint.name

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Filter control characters, and colors if NO_COLOR is set."""
        filters = [self._printable, *super().get_line_filters()]
        if not self.options.no_color:
            return filters
        return [each for each in filters if not isinstance(each, Monochrome)] + [NoColor()]

    def on_mount(self) -> None:
        """Show the list."""
        self.push_screen(PickerScreen(self._view, self.options.wall_clock), self._leave)

    def _leave(self, run: RunDirectory | None) -> None:
        self.exit(run)
