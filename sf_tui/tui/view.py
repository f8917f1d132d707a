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

from sf_tui.run.directory import RunDirectory
from sf_tui.run.liveness import WorkerState, probe_liveness
from sf_tui.tui.actions import read_actions
from sf_tui.tui.feed import RUNS_LISTED, RunFeed, RunListReader, WorkerLogTail
from sf_tui.tui.machine import Machine
from sf_tui.tui.panels.card import Card
from sf_tui.tui.panels.charts import AccuracyChart, LossChart
from sf_tui.tui.panels.danger_strip import DangerStrip
from sf_tui.tui.panels.header_footer import Footer, Header
from sf_tui.tui.panels.lists import Events, RunList, WorkerLog
from sf_tui.tui.panels.panel import Panel, PrintableFilter
from sf_tui.tui.panels.tables import Drift, DriftLine, MachinePanel, Matrix, layers_shown
from sf_tui.tui.panels.verdict import Verdict, VerdictLine, lines_wanted
from sf_tui.tui.terminal import ConsoleOptions
from sf_tui.tui.theme import ASCII, DARK, LIGHT, PLAIN, UNICODE, textual_theme
from sf_tui.tui.view_state import ViewState

_ROWS_ELSEWHERE = {False: 14, True: 17}
"""Rows of header, danger strip, events and footer; on wide screens the events have more. As in the
stylesheet, and so are the widths."""
_WIDTHS = {False: 44, True: 60}
_LEAST_RUNS = {False: 0, True: 6}
"""Rows that a long verdict leaves the run list."""
_LEAST_DRIFT = 5
_LEAST_VERDICT = 6
_GOOD_VERDICT = 8
"""Title, bar, numbers and evidence, the arm that decided in words."""


def side_heights(view: ViewState, height: int, *, wide: bool) -> dict[str, int]:
    """Return each panel's rows by its id, its title line among them.

    Args:
        view: what is looked at.
        height: of the terminal.
        wide: whether the layout is the one with the run list.
    """
    gpus = len(view.machine.gpus) if view.machine else 0
    drift = max(len(layers_shown(view)), 1) + 1
    matrix = min(max(len(view.tasks), 1), 8) + 2
    machine = 2 + max(2 * gpus, 1) if view.machine and not view.machine.problem else 2
    diagnosis = view.live.diagnosis
    if diagnosis is None:
        drift = min(drift, max(height - 28, 4) + 1)
        return {"drift": drift, "matrix": matrix, "verdict": 0, "machine": machine}
    # Each panel has an empty row below it; the log and the run list get what is left.
    left = height - _ROWS_ELSEWHERE[wide] - (matrix + 1) - (machine + 1) - 2
    drift = min(drift, max(left - _GOOD_VERDICT, _LEAST_DRIFT))
    verdict = max(left - drift - _LEAST_RUNS[wide], _LEAST_VERDICT)
    verdict = min(verdict, lines_wanted(diagnosis, _WIDTHS[wide]))
    return {"drift": drift, "matrix": matrix, "verdict": verdict, "machine": machine}


POLL_EVERY_S = 0.25
"""How often the logs are looked at; only what changed then costs anything."""
TEXT_EVERY_S = 1.0
CHART_EVERY_S = 2.0
SLOWER_WITH_LITE = 2.0
LIVENESS_EVERY_S = 1.0
RUN_LIST_EVERY_S = 10.0


@dataclass
class RefreshRate:
    """Tells whether something is due, and remembers when it was done.

    Attributes:
        clock: seconds that only ever rise.
        slower: factor on all that is drawn.
    """

    clock: Callable[[], float]
    slower: float = 1.0
    _done: dict[str, float] = field(default_factory=dict)

    def is_due(self, what: str, every_s: float) -> bool:
        """Tell whether `what` was last done at least `every_s` ago; if so it counts as done now."""
        now = self.clock()
        last = self._done.get(what)
        # A tick comes a little early or late: a tenth of it is forgiven.
        if last is not None and now - last < every_s - POLL_EVERY_S / 10:
            return False
        self._done[what] = now
        return True

    def text_is_due(self) -> bool:
        """Tell whether panels of text may be sent."""
        return self.is_due("text", TEXT_EVERY_S * self.slower)

    def charts_are_due(self) -> bool:
        """Tell whether charts may be sent."""
        return self.is_due("charts", CHART_EVERY_S * self.slower)


NEVER_BEGAN = -1
"""Result of a console whose run's worker ended before it had begun anything."""
NOTICE_S = 8.0
HISTORY_SLICE_S = 0.02
RUNS_AT_ONCE = 12
"""Lines of the run list that are read before the first frame: about 2 ms each."""


class RunView(App[int], inherit_bindings=False):
    """Shows a run while it happens; it ends with the console's exit code.

    Args:
        run: what is shown.
        options: how.
        terminal_is_ready: whether the terminal would take a write now; while it would not,
            nothing is composed, so that a slow link always gets the newest picture.
        worker_ended: of a run that is only being started, whether its worker has ended.
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
        super().__init__()
        self.options = options or ConsoleOptions()
        self._printable = PrintableFilter()
        self.animation_level = "none"
        self._terminal_is_ready = terminal_is_ready or (lambda: True)
        self._worker_ended = worker_ended or (lambda: False)
        self._feed = RunFeed(run)
        actions = read_actions(run)
        paint = PLAIN if self.options.no_color else LIGHT if self.options.light else DARK
        self.view = ViewState(
            run,
            live=self._feed.live,
            actions=actions,
            progress=self._feed.progress,
            read_only=self.options.read_only,
            glyphs=ASCII if self.options.ascii_only else UNICODE,
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
        self._text_news = False
        self._chart_news = False
        self._machine_news = True
        self._urgent_before: tuple[object, ...] = ()
        self._said_at = 0.0
        for each in (DARK, LIGHT, PLAIN):
            self.register_theme(textual_theme(each))
        self.theme = paint.name

    # What stands on the screen

    def compose(self) -> ComposeResult:
        """Make all panels; the stylesheet says which of them a layout shows."""
        view = self.view
        with Vertical(id="console"):
            yield Header(view, id="header")
            yield DangerStrip(view, id="danger")
            with Horizontal(id="body"):
                with Vertical(id="charts"):
                    yield AccuracyChart(view, id="accuracy")
                    yield LossChart(view, id="loss")
                with Vertical(id="side"):
                    yield Drift(view, id="drift")
                    yield Matrix(view, id="matrix")
                    yield Verdict(view, id="verdict", classes="-empty")
                    yield MachinePanel(view, id="machine")
                    yield RunList(view, id="runs")
                    yield WorkerLog(view, id="log")
            yield DriftLine(view, id="drift-line")
            yield VerdictLine(view, id="verdict-line", classes="-empty")
            with Horizontal(id="foot"):
                yield Events(view, id="events")
                yield WorkerLog(view, id="foot-log")
            yield Footer(view, id="footer")
        yield Card(view, id="card")

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Keep control signs from the terminal, and colors where NO_COLOR asks for it."""
        filters = [self._printable, *super().get_line_filters()]
        if not self.options.no_color:
            return filters
        return [each for each in filters if not isinstance(each, Monochrome)] + [NoColor()]

    def on_mount(self) -> None:
        """Show what is known and follow the run from now on."""
        self.look_at_worker()
        self.view.machine = self._machine.sample(self.view.liveness)
        self._worker_log.poll()
        self.view.log_lines = self._worker_log.lines
        self._urgent_before = self._urgent_facts()
        self._arrange()
        self.set_interval(POLL_EVERY_S, self.poll)
        if self._feed.progress is not None:
            self.run_worker(self._read_history())

    def on_resize(self, event: events.Resize) -> None:
        """Choose the layout for the new size."""
        self._arrange(event.size)

    def on_screen_resume(self) -> None:
        """Bring the panels up to date that were covered."""
        self.update_panels()

    def layout_for(self, width: int, height: int) -> str:
        """Return the name of the layout for a terminal's size."""
        if width < 60 or height < 20:
            return "card"
        if width >= 160 and height >= 34:
            return "wide"
        return "standard" if width >= 110 and height >= 34 else "compact"

    def _arrange(self, size: Size | None = None) -> None:
        width, height = size or self.size
        screen = self.screen_stack[0]
        layout = self.layout_for(width, height)
        for each in ("card", "compact", "standard", "wide"):
            screen.set_class(each == layout, f"-{each}")
        screen.set_class(height >= 34, "-tall")
        self._size_side()
        self._look_at_runs(RUNS_AT_ONCE)

    def _size_side(self) -> None:
        """Give each panel at the side the rows it has something to say in."""
        view = self.view
        screen = self.screen_stack[0]
        heights = side_heights(view, self.size.height, wide=screen.has_class("-wide"))
        for panel in screen.query(Panel):
            height = heights.get(panel.id or "")
            styled = panel.styles.height
            if height is not None and (styled is None or styled.value != height):
                panel.styles.height = height
            if isinstance(panel, (Verdict, VerdictLine)):
                panel.set_class(view.live.diagnosis is None, "-empty")

    def update_panels(self, *, charts: bool = True) -> None:
        """Compose the visible panels anew; only cells that differ are sent."""
        self.view.live = self._feed.live
        self.view.progress = self._feed.progress
        for screen in reversed(self.screen_stack):
            for panel in screen.query(Panel):
                if charts or not panel.IS_CHART:
                    panel.update()
            if not isinstance(screen, ModalScreen):
                break

    # Following the run

    def poll(self) -> None:
        """Take in what happened since the last poll, and show it when it is due."""
        if not self._terminal_is_ready():
            return
        view = self.view
        ended = self._worker_ended()
        if self._feed.poll():
            self._text_news = self._chart_news = self._machine_news = True
        view.now_s = self.options.wall_clock()
        # While the worker takes a while for something there is no event, but time to tell.
        self._text_news = self._text_news or view.work is not None
        if self._rate.is_due("liveness", LIVENESS_EVERY_S):
            before = view.liveness
            self.look_at_worker()
            self._text_news = self._text_news or view.liveness.state is not before.state
        if self._worker_log.poll():
            view.log_lines = self._worker_log.lines
            self._text_news = True
        if ended and self._feed.live.started is None:
            self.exit(NEVER_BEGAN)
            return
        facts = self._urgent_facts()
        urgent, self._urgent_before = facts != self._urgent_before, facts
        if self._text_news and (self._rate.text_is_due() or urgent):
            self._text_news = False
            self._forget_old_notice()
            self.update_panels(charts=False)
        if self._chart_news and self._rate.charts_are_due():
            self._chart_news = False
            self._look_at_machine()
            self._size_side()
            self.update_panels()
        if self._rate.is_due("runs", RUN_LIST_EVERY_S / RUNS_LISTED):
            self._look_at_runs(1)

    def look_at_worker(self) -> None:
        """Find out whether the worker lives; unreadable files leave what was known."""
        with suppress(OSError):
            found = probe_liveness(self.view.run, self.options.wall_clock())
            if found.state is WorkerState.STARTING and self._feed.live.started:
                # It had begun, and even its heartbeat is gone.
                found = replace(found, state=WorkerState.DEAD)
            if (
                found.state in {WorkerState.SILENT, WorkerState.DEAD}
                and self._feed.live.finished is not None
            ):
                # Whoever holds its lock, or has written since, looks at what it left: a diagnosis.
                # A worker that goes on has a heartbeat.
                found = replace(found, state=WorkerState.FINISHED)
            self.view.liveness = found

    def _forget_old_notice(self) -> None:
        """Take a notice away with other news: alone it is not worth a byte to a still screen."""
        if self.options.steady_clock() - self._said_at > NOTICE_S:
            self.view.notice = ""

    def _urgent_facts(self) -> tuple[object, ...]:
        """Return what an operator waits for: shown at the next poll, not at the next second."""
        live = self._feed.live
        newest = live.activity.newest_command()
        return (
            len(live.activity.commands),
            newest.command.status if newest else "",
            live.status,
            live.stage.in_danger if live.stage else False,
            self.view.liveness.state,
        )

    def _look_at_machine(self) -> None:
        if self._machine_news and not self._feed.live.paused:
            self._machine_news = False
            self.view.machine = self._machine.sample(self.view.liveness)

    def _look_at_runs(self, count: int) -> None:
        """Read some lines of the run list anew, where it is shown."""
        if not self.screen_stack:
            # A timer may fire once more while the console closes.
            return
        screen = self.screen_stack[0]
        if screen.has_class("-wide"):
            now_s = self.options.wall_clock()
            for _ in range(count):
                self.view.runs = self._run_list.read_some(self.view.run, now_s)
            # A loop, because while the console closes there may be none any more.
            for panel in screen.query(RunList):
                panel.update()

    async def _read_history(self) -> None:
        """Read the older part of a long log, a slice at a time between all else."""
        while self._feed.read_history(HISTORY_SLICE_S):
            self._text_news = True
            await asyncio.sleep(HISTORY_SLICE_S / 2)
        self._size_side()
        self.update_panels()

    # What the console has to say

    def say(self, text: str, level: str = "info", *, command: str = "") -> None:
        """Show a sentence in the footer until there are later news or keys.

        Args:
            text: the sentence.
            level: info, warn or error.
            command: id of the command that it is about, whose state it then follows.
        """
        self._said_at = self.options.steady_clock()
        self.view.notice, self.view.notice_level = text, level
        self.view.notice_command = command
        self.update_panels(charts=False)
