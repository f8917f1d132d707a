"""The log: the end of what the worker printed."""

from __future__ import annotations

from typing import ClassVar

from sf_tui.tui.lines import Line
from sf_tui.tui.panels.panel import Panel


class WorkerLog(Panel):
    """The last lines of `worker.log`."""

    TITLE: ClassVar[str] = "worker log"
    can_focus = True

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the last lines, or why there are none."""
        del width
        lines = self.view.log_lines
        if not lines:
            return [[("  the worker has printed nothing", "muted")]]
        return [[(f" {line}", "muted")] for line in lines[-height:]]
