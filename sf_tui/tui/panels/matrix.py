"""The matrix: every task's measure at the start, worst in this stage, and after each stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sf_tui.tui.lines import Line, Piece
from sf_tui.tui.panels.panel import Panel

_CELL = 6


class Matrix(Panel):
    """Tasks down, stages across; the newest stage's values are those of now."""

    TITLE: ClassVar[str] = "accuracy by stage"
    can_focus = True

    def title_right(self) -> Sequence[Piece]:
        """Say what the second column is."""
        return (("worst: in this stage", "muted"),) if self.view.live.curves.stages else ()

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return a row for each task."""
        view = self.view
        stages = list(view.live.curves.stages.values())
        if not stages:
            return [[("  no stage has begun", "muted")]]
        name_width = min(max(len(task) for task in view.tasks), 12) + 3
        columns = max((width - name_width) // _CELL - 2, 1)
        shown = stages[-columns:]
        header: Line = [(" " * name_width, "text")]
        header += [(f"{title:>{_CELL}}", "muted") for title in ("start", "worst")]
        header += [(f"{stage.name[: _CELL - 1]:>{_CELL}}", "muted") for stage in shown]
        lines = [header]
        for task in view.tasks:
            role, marker = view.task_paint(task)
            line: Line = [(f" {marker} {task[:12]:<{name_width - 3}}", role)]
            first = stages[0].accuracy.get(task)
            line.append(_cell(first.value_at(0) if first else None, "muted"))
            newest = stages[-1].accuracy.get(task)
            extremes = newest.extremes(0, stages[-1].steps) if newest else None
            metric = view.live.metric(task)
            line.append(_cell(metric.worst(extremes) if extremes else None, "muted"))
            for stage in shown:
                series = stage.accuracy.get(task)
                value = series.last_value if series else None
                begun = series.value_at(0) if series else None
                lost = (
                    value is not None
                    and begun is not None
                    and task in stage.known
                    and metric.drop(begun, value) >= view.actions.alert_drop
                )
                line.append(_cell(value, "danger" if lost else "text"))
            lines.append(line)
        return lines[:height]


def _cell(value: float | None, role: str) -> tuple[str, str]:
    text = "·" if value is None else f"{value:.2f}"
    return (f"{text:>{_CELL}}", role if value is not None else "faint")
