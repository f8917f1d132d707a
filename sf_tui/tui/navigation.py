"""A run view whose panels can be chosen, zoomed, scrolled and opened, and replayed step by step.

Moves what is seen; sends nothing. `console` gives these commands their keys.
"""

from __future__ import annotations

from textual.app import ComposeResult
from textual.screen import Screen

from sf_tui.tui.activity import Entry
from sf_tui.tui.dialogs.entry import EntryDialog
from sf_tui.tui.event_rows import EventRow
from sf_tui.tui.panels.charts import AccuracyChart, ChartPanel, LossChart
from sf_tui.tui.panels.danger_strip import DangerStrip
from sf_tui.tui.panels.header_footer import Footer, Header
from sf_tui.tui.panels.lists import Events, ListPanel, WorkerLog
from sf_tui.tui.panels.machine import MachinePanel
from sf_tui.tui.panels.matrix import Matrix
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.pinned import compare_next_task
from sf_tui.tui.panels.tables import Drift
from sf_tui.tui.panels.verdict import Verdict
from sf_tui.tui.view_state import (
    ViewState,
    change_range,
    go_to_entry,
    jump_to_mark,
    move_by_probe,
)
from sf_tui.tui.visiting import VisitingView

PANELS: tuple[type[Panel], ...] = (
    AccuracyChart,
    LossChart,
    Drift,
    Matrix,
    Verdict,
    Events,
    WorkerLog,
    MachinePanel,
)
"""The panels by the number key that chooses them, from 1 on."""


class ZoomScreen(Screen[None], inherit_bindings=False):
    """Header, danger strip, one panel, footer.

    Without Textual's own bindings: tab shows the next panel.

    Args:
        view: the console's.
        panel: class of the zoomed panel.
    """

    def __init__(self, view: ViewState, panel: type[Panel]) -> None:
        super().__init__(classes="-zoomed")
        self._view = view
        self.panel = panel

    def compose(self) -> ComposeResult:
        """Create new panels on the same view."""
        yield Header(self._view, id="header")
        yield DangerStrip(self._view, id="danger")
        yield self.panel(self._view, id="zoom-room")
        yield Footer(self._view, id="footer")


class NavigableView(VisitingView, inherit_bindings=False):
    """The commands that choose what is seen."""

    def chosen_panel(self) -> Panel | None:
        """Return the zoomed panel, else the one chosen with tab; None if none is."""
        if isinstance(self.screen, ZoomScreen):
            return self.screen.query_one(self.screen.panel)
        return self.focused if isinstance(self.focused, Panel) else None

    def _shown_panel(self, kind: type[Panel]) -> Panel | None:
        """Return the panel of a kind if the layout shows it."""
        return next((panel for panel in self.screen.query(kind) if panel.is_on_screen), None)

    def _command_zoom(self) -> None:
        if isinstance(self.screen, ZoomScreen):
            self._leave_zoom()
            return
        panel = self.chosen_panel()
        self._zoom(type(panel) if panel is not None else AccuracyChart)

    def _zoom(self, kind: type[Panel]) -> None:
        screen = ZoomScreen(self.view, kind)
        if isinstance(self.screen, ZoomScreen):
            self.switch_screen(screen)
        else:
            self.push_screen(screen)

    def _leave_zoom(self) -> None:
        """Go back to all panels; the one that was zoomed stays chosen."""
        assert isinstance(self.screen, ZoomScreen)
        kind = self.screen.panel
        self.pop_screen()
        panel = next(iter(self.screen.query(kind)), None)
        if panel is not None and panel.can_focus:
            panel.focus()

    def _command_next_panel(self) -> None:
        # Among all panels Textual itself moves the focus with tab.
        if isinstance(self.screen, ZoomScreen):
            self._zoom(PANELS[(PANELS.index(self.screen.panel) + 1) % len(PANELS)])

    def _command_panel(self, key: str) -> None:
        """Choose the panel of a number; zoom it, or leave the zoom, if it is chosen already."""
        kind = PANELS[int(key or "1") - 1]
        panel = self._shown_panel(kind)
        if isinstance(self.chosen_panel(), kind) and panel is not None:
            self._command_zoom()
        elif isinstance(self.screen, ZoomScreen) or panel is None:
            self._zoom(kind)
        else:
            panel.focus()

    def _list(self) -> ListPanel | None:
        """Return the list that the list keys move: the chosen one, else the events."""
        if isinstance(self.focused, ListPanel):
            return self.focused
        shown = [panel for panel in self.screen.query(ListPanel) if panel.is_on_screen]
        events = (panel for panel in shown if isinstance(panel, Events))
        return next(events, shown[0] if shown else None)

    def _command_list_up(self) -> None:
        if (panel := self._list()) is not None:
            panel.move(-1)

    def _command_list_down(self) -> None:
        if (panel := self._list()) is not None:
            panel.move(1)

    def _command_list_page_up(self) -> None:
        if (panel := self._list()) is not None:
            panel.move(-panel.page)

    def _command_list_page_down(self) -> None:
        if (panel := self._list()) is not None:
            panel.move(panel.page)

    def _command_list_start(self) -> None:
        if (panel := self._list()) is not None:
            panel.go_to_start()

    def _command_list_end(self) -> None:
        if (panel := self._list()) is not None:
            panel.follow()

    def _command_open(self) -> None:
        panel = self._list()
        if isinstance(panel, WorkerLog) and not isinstance(self.screen, ZoomScreen):
            self._zoom(WorkerLog)
            return
        view = self.view
        rows = view.events.rows(view.live.activity, view.event_filter)
        if rows and not isinstance(panel, WorkerLog):
            at = view.events.index(rows)
            self._open_row(rows[-1 if at is None else at])

    def on_events_opened(self, message: Events.Opened) -> None:
        """Show a clicked row in full."""
        self._open_row(message.row)

    def _open_row(self, row: EventRow) -> None:
        view = self.view
        rows = list(view.events.rows(view.live.activity, view.event_filter))
        if all(each.main is not row.main for each in rows):
            # A pinned alert that is older than all rows kept.
            rows.insert(0, row)
        self.push_screen(EntryDialog(view, self.options.steady_clock, rows, row), self._go_to)

    def _go_to(self, entry: Entry | None) -> None:
        """Move the replay cursor to an entry's step, with the charts in sight."""
        if entry is None:
            return
        if not go_to_entry(self.view, entry.stage, entry.step):
            self.show_notice(f"the charts have no stage {entry.stage}", "warn")
            return
        if isinstance(self.screen, ZoomScreen):
            self._leave_zoom()
        self.update_panels()

    def on_chart_panel_step_chosen(self, message: ChartPanel.StepChosen) -> None:
        """Move the replay cursor to a clicked step; right of the newest one, back to live."""
        curves, stage = self.view.newest.curves, self.view.newest.stage
        newest = curves.x_of(stage.name, stage.step) if stage is not None else None
        if newest is not None:
            self.view.cursor = message.x if message.x < newest else None
            self.update_panels()

    def _command_back(self) -> None:
        move_by_probe(self.view, -1)

    def _command_forward(self) -> None:
        move_by_probe(self.view, 1)

    def _command_previous_mark(self) -> None:
        jump_to_mark(self.view, -1)

    def _command_next_mark(self) -> None:
        jump_to_mark(self.view, 1)

    def _command_live(self) -> None:
        view = self.view
        if view.event_filter or view.events.chosen is not None or view.log_end is not None:
            view.event_filter, view.events.chosen, view.log_end = "", None, None
        elif view.cursor is not None:
            view.cursor = None
        elif isinstance(self.screen, ZoomScreen):
            self._leave_zoom()
        else:
            self.leave_present()

    def leave_present(self) -> None:
        """React to esc where nothing on the screen is left to leave; for subclasses."""

    def _command_narrow(self) -> None:
        if not change_range(self.view, 1):
            self.show_notice("the charts can't span fewer steps: > spans more")

    def _command_widen(self) -> None:
        if not change_range(self.view, -1):
            self.show_notice("the charts span the whole run: < spans less")

    def _command_next_task(self) -> None:
        if not self.view.pins:
            self.show_notice("no run is pinned: R lists the runs, space there pins one")
        elif not compare_next_task(self.view):
            self.show_notice("the run has one task")

    def _command_log_scale(self) -> None:
        self.view.log_loss = not self.view.log_loss
