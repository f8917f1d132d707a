"""A run view that can show other runs, and go back.

Opening a run out of another one costs the worker of neither anything, and keeps how each was looked
at. Knows which run is shown; `console` decides when that changes.
"""

from __future__ import annotations

from collections.abc import Callable

from sf_tui.run.directory import RunDirectory
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.terminal import ConsoleOptions
from sf_tui.tui.view import RunView
from sf_tui.tui.visits import Visit, Visits


class VisitingView(RunView, inherit_bindings=False):
    """An application that shows one run at a time, out of several."""

    def __init__(
        self,
        run: RunDirectory,
        options: ConsoleOptions | None = None,
        *,
        terminal_is_ready: Callable[[], bool] | None = None,
        worker_ended: Callable[[], bool] | None = None,
    ) -> None:
        self._visits = Visits()
        has_ended = worker_ended or (lambda: False)
        super().__init__(
            run,
            options,
            terminal_is_ready=terminal_is_ready,
            # The worker that is starting is the first run's.
            worker_ended=lambda: not self._visits and has_ended(),
        )

    def show_run(self, run: RunDirectory) -> None:
        """Show another run; `go_back` returns to the present one."""
        if run.path == self.view.run.path:
            return
        here = Visit(self.view, self._feed, self._worker_log, self._machine)
        self._enter(self._visits.leave_for(run, here))

    def go_back(self) -> bool:
        """Return to the run that was shown before; return whether there is one."""
        before = self._visits.go_back()
        if before is not None:
            self._enter(before)
        return before is not None

    def entered_run(self) -> None:
        """React to another run being shown; for subclasses."""

    def _enter(self, visit: Visit) -> None:
        visit.take_over(self.view)
        self.view, self._feed = visit.view, visit.feed
        self._worker_log, self._machine = visit.worker_log, visit.machine
        panels = [panel for screen in self.screen_stack for panel in screen.query(Panel)]
        for panel in panels:
            panel.view = self.view
        self._news = self._machine_news = True
        self.entered_run()
        self.check_worker()
        self._worker_log.poll()
        self._show_news()
        self._arrange(self.size)
        for panel in panels:
            panel.repaint()
        self._read_older()
