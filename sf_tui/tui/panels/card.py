"""The card: the most important numbers in large digits, for a screen too small for panels."""

from __future__ import annotations

from sf_tui.run.liveness import WorkerState
from sf_tui.tui.lines import Line, as_many_as_fit
from sf_tui.tui.numbers import format_change, format_duration, format_share
from sf_tui.tui.panels.panel import Panel
from sf_tui.vocabulary.metrics import DEFAULT_METRIC

_DIGITS = {
    "0": ("╭─╮", "│ │", "╰─╯"),
    "1": ("╶╮ ", " │ ", "╶┴╴"),
    "2": ("╶─╮", "┌─┘", "╰─╴"),
    "3": ("╶─╮", " ─┤", "╶─╯"),
    "4": ("╷ ╷", "╰─┤", "  ╵"),
    "5": ("╭─╴", "╰─╮", "╶─╯"),
    "6": ("╭─╴", "├─╮", "╰─╯"),
    "7": ("╶─┐", "  │", "  ╵"),
    "8": ("╭─╮", "├─┤", "╰─╯"),
    "9": ("╭─╮", "╰─┤", "╶─╯"),
    ".": (" ", " ", "."),
    "–": ("   ", "╶─╴", "   "),
}


class Card(Panel):
    """Accuracy of every task, the step, the drop, and the key that leaves."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the lines that fit, most important first."""
        view = self.view
        stage = view.stage
        state = view.liveness.state
        status = view.live.status.replace("_", " ")
        if state in {WorkerState.DEAD, WorkerState.SILENT}:
            status = f"worker {state.value}"
        work = view.work
        if work is not None:
            status = f"{work[0]} {view.glyphs.ellipsis} {format_duration(int(work[1]))}"
        bad = state in {WorkerState.DEAD, WorkerState.SILENT}
        where = f"{stage.name} {view.step}/{stage.steps}" if stage else "no stage yet"
        lines: list[Line] = [[(where, "strong"), (f"  {status}", "danger" if bad else "ok")]]
        lines += self._numbers(width, height)
        lines += [self._danger(), self._held()]
        if state is WorkerState.DEAD:
            lines.append([(f"sf resume {view.run.id}", "strong")])
        lines = [line for line in lines if line]
        if view.notice:
            lines = [*lines[: max(height - 1, 1)], [(view.notice, "warn")]]
        elif len(lines) < height:
            lines += [[] for _ in range(height - len(lines) - 1)]
            lines.append([("q", "key"), (" leave  ", "muted"), ("?", "key"), (" help", "muted")])
        return lines[:height]

    def _numbers(self, width: int, height: int) -> list[Line]:
        view = self.view
        values = [
            (task, value) for task in view.tasks if (value := view.accuracy_now(task)) is not None
        ]
        if not values:
            return [[("no probe yet", "muted")]]
        large = view.glyphs.braille and height >= 4 + 3 * len(values) and width >= 26
        lines: list[Line] = []
        for task, value in values:
            role, marker = view.task_paint(task)
            if not large:
                lines.append([(f"{marker} {task} ", role), (format_share(value), "strong")])
                continue
            signs = [_DIGITS[sign] for sign in format_share(value)]
            for row in range(3):
                label = f"{marker} {task}"[:10] if row == 1 else ""
                drawn = "".join(sign[row] for sign in signs)
                lines.append([(f"{label:<11}", role), (drawn, role)])
        return lines

    def _danger(self) -> Line:
        view = self.view
        stage, drop = view.stage, view.drop
        if stage is None or not view.known:
            return []
        parts: list[Line] = []
        if view.in_window:
            parts.append([(f"danger window {view.step}/{stage.window}", "danger")])
        if drop is not None:
            task = view.live.worst_known
            metric = view.live.metric(task) if task else DEFAULT_METRIC
            parts.append([(format_change(-drop, metric), "text")])
        return as_many_as_fit(parts, self.size.width)

    def _held(self) -> Line:
        """Return the active protections and the verdict."""
        view = self.view
        parts: list[Line] = []
        if view.frozen_layers:
            parts.append([(f"{len(view.frozen_layers)} frozen", "ok")])
        if view.anchor is not None:
            parts.append([("anchored", "ok")])
        if view.verdict:
            parts.append([(view.verdict, "strong")])
        return as_many_as_fit(parts, self.size.width)
