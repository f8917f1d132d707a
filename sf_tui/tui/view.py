"""The view of a run: composes and sizes the panels, follows the logs, limits the refresh rate.

Only reads. Knows layouts and timers; `console` adds the keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from textual import events
from textual.app import App, ComposeResult
from textual.containers import Horizontal, Vertical
from textual.filter import LineFilter, Monochrome, NoColor
from textual.geometry import Size
from textual.screen import ModalScreen

from sf_tui.run.checkpoint_folders import paths_on_disk
from sf_tui.run.directory import RunDirectory
from sf_tui.run.liveness import WorkerState, probe_liveness
from sf_tui.run.rank_readings import find_troubles
from sf_tui.tui.actions import read_actions
from sf_tui.tui.driver import TerminalDriver
from sf_tui.tui.feed import RUNS_LISTED, RunFeed, RunListReader
from sf_tui.tui.machine import Machine
from sf_tui.tui.numbers import format_clock
from sf_tui.tui.operation import waiting
from sf_tui.tui.panels.card import Card
from sf_tui.tui.panels.charts import AccuracyChart, LossChart, LossLine
from sf_tui.tui.panels.danger_strip import DangerStrip, strip_height
from sf_tui.tui.panels.header_footer import Footer, Header
from sf_tui.tui.panels.lists import Events, RunList, WorkerLog
from sf_tui.tui.panels.machine import MachinePanel
from sf_tui.tui.panels.matrix import Matrix
from sf_tui.tui.panels.panel import Panel, PrintableFilter
from sf_tui.tui.panels.pinned import PinLegend
from sf_tui.tui.panels.tables import Drift, DriftLine
from sf_tui.tui.panels.verdict import Verdict, VerdictLine
from sf_tui.tui.sent_cells import SendsChangedCells
from sf_tui.tui.side_heights import side_heights
from sf_tui.tui.terminal import ConsoleOptions
from sf_tui.tui.theme import PAINTS, choose_glyphs, choose_paint, textual_theme
from sf_tui.tui.view_state import ViewState
from sf_tui.tui.worker_log import WorkerLogTail

POLL_EVERY_S = 0.25
"""Interval between polls of the logs; a poll without changes costs almost nothing."""
FRAME_EVERY_S = 1.0
"""Interval between frames; every panel shows the same instant."""
MACHINE_EVERY_S = 2.0
SLOWER_WITH_LITE = 3.0
LIVENESS_EVERY_S = 1.0
RUN_LIST_EVERY_S = 10.0
NEVER_BEGAN = -1
"""Result if the worker ended before the run started."""
NOTICE_S = 8.0
HISTORY_SLICE_S = 0.02
RUNS_AT_ONCE = 12
"""Runs of the list read before the first frame, about 2 ms each."""


@dataclass
class RefreshRate:
    """Schedules recurring work by the time it was last done.

    Attributes:
        clock: monotonic seconds.
        slower: factor on the intervals of everything drawn.
    """

    clock: Callable[[], float]
    slower: float = 1.0
    _done: dict[str, float] = field(default_factory=dict)

    def is_due(self, what: str, every_s: float) -> bool:
        """Return whether `what` was not done for `every_s`; if so, record it as done now."""
        now = self.clock()
        last = self._done.get(what)
        # Timer ticks are a little early or late; tolerate a tenth of one.
        if last is not None and now - last < every_s - POLL_EVERY_S / 10:
            return False
        self._done[what] = now
        return True

    def frame_is_due(self) -> bool:
        """Return whether the panels are due."""
        return self.is_due("frame", FRAME_EVERY_S * self.slower)


class RunView(SendsChangedCells, App[int], inherit_bindings=False):
    """An application that shows a live run and returns the console's exit code.

    Args:
        run: the run to show.
        options: of the session.
        terminal_is_ready: whether the terminal accepts a write now; if not, nothing is composed,
            so that a slow link always gets the newest frame.
        worker_ended: whether the worker of a run that is starting has ended.
    """

    CSS_PATH = "console.tcss"
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    TITLE = "sf"

    def __init__(
        self,
        run: RunDirectory,
        options: ConsoleOptions | None = None,
        *,
        terminal_is_ready: Callable[[], bool] | None = None,
        worker_ended: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__(driver_class=TerminalDriver)
        self.options = options or ConsoleOptions()
        self._printable = PrintableFilter()
        self.animation_level = "none"
        self._terminal_is_ready = terminal_is_ready or (lambda: True)
        self._worker_ended = worker_ended or (lambda: False)
        self._feed = RunFeed(run)
        actions = read_actions(run)
        chosen = self.options
        paint = choose_paint(no_color=chosen.no_color, light=chosen.light, lite=chosen.lite)
        self.send_changed_cells(clears=not paint.background)
        self.view = ViewState(
            run,
            newest=self._feed.live,
            actions=actions,
            progress=self._feed.progress,
            read_only=self.options.read_only,
            glyphs=choose_glyphs(ascii_only=chosen.ascii_only, lite=chosen.lite),
            paint=paint,
            zone=self.options.zone,
            now_s=self.options.wall_clock(),
        )
        self._rate = RefreshRate(
            self.options.steady_clock, SLOWER_WITH_LITE if self.options.lite else 1.0
        )
        self._machine = Machine()
        self._worker_log = WorkerLogTail(run.worker_log)
        self._run_list = RunListReader()
        self._news = False
        self._machine_news = True
        self._shown_size = Size(0, 0)
        self._notice_at = 0.0
        for each in PAINTS:
            self.register_theme(textual_theme(each))
        self.theme = paint.name

    # Layout

    def compose(self) -> ComposeResult:
        """Create all panels; the stylesheet decides which of them a layout shows."""
        view = self.view
        with Vertical(id="console"):
            yield Header(view, id="header")
            yield DangerStrip(view, id="danger")
            with Horizontal(id="body"):
                with Vertical(id="charts"):
                    yield AccuracyChart(view, id="accuracy")
                    yield PinLegend(view, id="pins")
                    yield LossChart(view, id="loss")
                with Vertical(id="side"):
                    yield Drift(view, id="drift")
                    yield Matrix(view, id="matrix")
                    yield Verdict(view, id="verdict", classes="-empty")
                    yield MachinePanel(view, id="machine")
                    yield RunList(view, id="runs")
                    yield WorkerLog(view, id="log")
            yield LossLine(view, id="loss-line")
            yield DriftLine(view, id="drift-line")
            yield VerdictLine(view, id="verdict-line", classes="-empty")
            with Horizontal(id="foot"):
                yield Events(view, id="events")
                yield WorkerLog(view, id="foot-log")
            yield Footer(view, id="footer")
        yield Card(view, id="card")

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Filter control characters, and colors if NO_COLOR is set."""
        filters = [self._printable, *super().get_line_filters()]
        if not self.options.no_color:
            return filters
        return [each for each in filters if not isinstance(each, Monochrome)] + [NoColor()]

    def on_mount(self) -> None:
        """Show the state read so far and start to follow the run."""
        self.check_worker()
        self.sample_machine()
        self._worker_log.poll()
        self._show_log()
        self._arrange(self.size)
        self.set_interval(POLL_EVERY_S, self.poll)
        self._read_older()

    def on_resize(self, event: events.Resize) -> None:
        """Apply the layout for the new size."""
        self._arrange(event.size)
        # A panel that keeps its size gets no event of its own.
        self.call_after_refresh(self._after_resize)

    def _after_resize(self) -> None:
        self._keep_a_panel_chosen()
        self.update_panels()

    def _keep_a_panel_chosen(self) -> None:
        """Choose a panel where none is, unless the layout is the card, which has none.

        A panel that the card hides loses the focus some time later, maybe behind the next resize.
        """
        screen = self.screen_stack[0]
        if screen.focused is None and not screen.has_class("-card"):
            # A closing console has no panel any more.
            for chart in screen.query(AccuracyChart):
                screen.set_focus(chart)

    def on_screen_resume(self) -> None:
        """Update the panels that were covered."""
        self.update_panels()

    def layout_for(self, width: int, height: int) -> str:
        """Return the name of the layout for a terminal's size."""
        if width < 60 or height < 20:
            return "card"
        if width >= 160 and height >= 34:
            return "wide"
        return "standard" if width >= 110 and height >= 34 else "compact"

    def _arrange(self, size: Size) -> None:
        self._shown_size = size
        width, height = size
        screen = self.screen_stack[0]
        layout = self.layout_for(width, height)
        classes = {f"-{each}": each == layout for each in ("card", "compact", "standard", "wide")}
        classes |= {"-tall": height >= 34, "-with-loss": height >= 30}
        classes |= {"-with-loss-line": height >= 24}
        # All at once, because every change of a class restyles all widgets.
        screen.update_classes(classes)
        self._size_panels()
        self._refresh_runs(RUNS_AT_ONCE)

    def _size_panels(self) -> None:
        """Set the height of the strip and of each side panel to its content."""
        view = self.view
        self.screen_stack[0].set_class(len(view.pins) > 0, "-pinned")
        width, height = self._shown_size
        wide = self.screen_stack[0].has_class("-wide")
        heights = side_heights(view, height, wide=wide) | {"danger": strip_height(view, width)}
        for panel in (panel for screen in self.screen_stack for panel in screen.query(Panel)):
            wanted = heights.get(panel.id or "")
            styled = panel.styles.height
            if wanted is not None and (styled is None or styled.value != wanted):
                panel.styles.height = wanted
            if isinstance(panel, (Verdict, VerdictLine)):
                panel.set_class(view.live.diagnosis is None, "-empty")

    def update_panels(self) -> None:
        """Compose the visible panels again; only changed cells are sent."""
        self.view.newest = self._feed.live
        self.view.progress = self._feed.progress
        self._size_panels()
        for screen in reversed(self.screen_stack):
            for panel in screen.query(Panel):
                panel.update()
            if not isinstance(screen, ModalScreen):
                break

    # Following the run

    def poll(self) -> None:
        """Read the changes since the last poll, and show all of them together when due.

        What was read changes the shown state only with the next frame, so that all panels are of
        one instant, whatever composes one of them in between.
        """
        # A timer may fire while the console closes.
        if not self._terminal_is_ready() or not self.screen_stack:
            return
        self._keep_a_panel_chosen()
        view = self.view
        ended = self._worker_ended()
        if self._feed.read():
            self._news = self._machine_news = True
        view.now_s = self.options.wall_clock()
        # Time alone changes the work under way and what waits, and ends a notice.
        self._news = self._news or view.work is not None or bool(waiting(view))
        self._news = self._news or (bool(view.notice) and self._notice_is_old)
        urgent = self._feed.is_urgent
        if self._rate.is_due("liveness", LIVENESS_EVERY_S):
            before = view.liveness
            self.check_worker()
            if view.liveness.state is not before.state:
                self._news = self._machine_news = urgent = True
            elif find_troubles(view.liveness.ranks_now) != find_troubles(before.ranks_now):
                # A run that waits for a rank logs nothing.
                self._news = self._machine_news = True
        self._news = self._worker_log.poll() or self._news
        self._news = view.pins.poll() or self._news
        if self._rate.is_due("runs", RUN_LIST_EVERY_S / RUNS_LISTED):
            self._news = self._refresh_runs(1) or self._news
        if self._news and (self._rate.frame_is_due() or urgent):
            self._show_news()
        if ended and self._feed.live.started is None and not self._feed.is_behind:
            self.exit(NEVER_BEGAN)

    def _show_news(self) -> None:
        """Take in all that was read, and compose every panel."""
        self._feed.apply()
        self._news = self._feed.is_behind
        self._show_log()
        self._drop_old_notice()
        self.sample_machine()
        self.update_panels()

    def _show_log(self) -> None:
        self.view.log_lines = self._worker_log.lines
        self.view.log_dropped = self._worker_log.dropped

    def check_worker(self) -> None:
        """Update the worker's liveness; keep the previous one if files are unreadable."""
        with suppress(OSError):
            found = probe_liveness(self.view.run, self.options.wall_clock())
            if found.state is WorkerState.STARTING and self._feed.live.started:
                # The run had started, and even its heartbeat is gone.
                found = replace(found, state=WorkerState.DEAD)
            if (
                found.state in {WorkerState.SILENT, WorkerState.DEAD}
                and self._feed.live.finished is not None
            ):
                # The lock is held, or the log was written, by a diagnosis of the ended run. A
                # resumed worker would have a heartbeat.
                found = replace(found, state=WorkerState.FINISHED)
            self.view.liveness = found
        self._feed.live.on_disk = paths_on_disk(self.view.run, self._feed.live)

    @property
    def _notice_is_old(self) -> bool:
        return self.options.steady_clock() - self._notice_at > NOTICE_S

    def _drop_old_notice(self) -> None:
        """Clear an old notice."""
        if self._notice_is_old:
            self.view.notice = ""

    def sample_machine(self) -> None:
        """Update the load of the worker's machine; an ended run has the time of its end."""
        live = self._feed.live
        if live.finished is not None:
            clock = format_clock(live.finished.time, self.view.zone).strip()[:5]
            # An imported run's events have the time of the import.
            ended = "imported" if self.view.run.references.exists() else "the run ended"
            self.view.machine = self._machine.after_end(
                self.view.run, self.view.liveness, f"{ended} {clock}".rstrip()
            )
        elif self.view.machine is None or (
            self._machine_news and not live.paused and self._rate.is_due("machine", MACHINE_EVERY_S)
        ):
            self._machine_news = False
            self.view.machine = self._machine.sample(self.view.run, self.view.liveness)

    def _refresh_runs(self, count: int) -> bool:
        """Read some runs of the run list again if the layout shows it; return if any changed."""
        # A timer may fire while the console closes.
        if not self.screen_stack or not self.screen_stack[0].has_class("-wide"):
            return False
        before, now_s = self.view.runs, self.options.wall_clock()
        for _ in range(count):
            self.view.runs = self._run_list.read_some(self.view.run, now_s)
        return self.view.runs != before

    async def _read_history(self) -> None:
        """Read the older part of a long log in slices, interleaved with other work."""
        while self._feed.read_history(HISTORY_SLICE_S):
            self._news = True
            await asyncio.sleep(HISTORY_SLICE_S / 2)
        self.update_panels()

    def _read_older(self) -> None:
        if self._feed.progress is not None:
            self.run_worker(self._read_history(), group="history", exclusive=True)

    # Notices

    def show_notice(self, text: str, level: str = "info", *, command: str = "") -> None:
        """Show a sentence in the footer until later changes or keys.

        Args:
            text: the sentence.
            level: info, warn or error.
            command: id of the command that the notice follows.
        """
        self._notice_at = self.options.steady_clock()
        self.view.notice, self.view.notice_level = text, level
        self.view.notice_command = command
        self.update_panels()
