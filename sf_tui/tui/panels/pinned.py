"""The curves of pinned runs over those of the shown run, and their legend.

One task is compared, as lines of several tasks of several runs can't be told apart: the old one
that is watched first, until another one is chosen. A curve's mark is its run's digit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from sf_tui.tui.actions import NEXT_TASK_KEY
from sf_tui.tui.axes import Scale
from sf_tui.tui.chart import Curve
from sf_tui.tui.lines import Line, line_width
from sf_tui.tui.live_state import StageCurves
from sf_tui.tui.numbers import format_value
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.pins import ClippedSeries, Pin, aligned_stages
from sf_tui.tui.series import MinMaxSeries
from sf_tui.tui.theme import task_role
from sf_tui.tui.view_state import ViewState

Parts = list[tuple[int, MinMaxSeries]]
SeriesOf = Callable[[StageCurves], MinMaxSeries | None]
_LEVELS = 4
"""Lengths of a legend's entries, from the longest."""
_SHORT_NAME = 12


def _comparable(view: ViewState) -> list[str]:
    """Return the tasks that can be compared, the watched old ones first."""
    return list(dict.fromkeys([*view.known, *view.tasks]))


def compared_task(view: ViewState) -> str:
    """Return the task whose curves are laid over each other; empty without any task."""
    tasks = _comparable(view)
    return view.pin_task if view.pin_task in tasks else next(iter(tasks), "")


def compare_next_task(view: ViewState) -> bool:
    """Choose the next task to compare; return whether there is another one."""
    tasks = _comparable(view)
    if len(tasks) < 2:
        return False
    view.pin_task = tasks[(tasks.index(compared_task(view)) + 1) % len(tasks)]
    return True


def accuracy_of(task: str) -> SeriesOf:
    """Return what finds a task's accuracy in a stage."""
    return lambda stage: stage.accuracy.get(task)


def loss_of(stage: StageCurves) -> MinMaxSeries | None:
    """Return a stage's training loss; None before its first step."""
    return stage.loss if len(stage.loss) else None


def pin_role(view: ViewState, pin: Pin) -> str:
    """Return the role that paints a pinned run: one that no task has while there are enough."""
    return task_role(len(view.tasks) + int(pin.sign) - 1)


def pinned_parts(view: ViewState, pin: Pin, series_of: SeriesOf) -> Parts:
    """Return a pinned run's series on the step axis of the shown run."""
    parts: Parts = []
    for offset, stage, limit in aligned_stages(pin.live, view.newest):
        series = series_of(stage)
        if series is not None:
            parts.append((offset, series if limit is None else ClippedSeries(series, limit)))
    return parts


def pinned_curves(view: ViewState, series_of: SeriesOf, scale: Scale, before: int) -> list[Curve]:
    """Return the curves of all pinned runs.

    Args:
        view: what is shown.
        series_of: what is drawn of a stage.
        scale: the y axis.
        before: steps by which a curve is interrupted before an act that changed the weights.
    """
    found = []
    for pin in view.pins:
        breaks = [
            offset + change.step - before
            for offset, stage, _ in aligned_stages(pin.live, view.newest)
            for change in stage.state.weight_changes
        ]
        parts = pinned_parts(view, pin, series_of)
        if parts:
            found.append(Curve(pin_role(view, pin), pin.sign, parts, scale, breaks))
    return found


class PinLegend(Panel):
    """Which mark is which pinned run, with its score at the shown step and its newest one."""

    TITLE: ClassVar[str] = ""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the pinned runs, as many as fit."""
        view = self.view
        task = compared_task(view)
        # An action of the profile may have the key.
        is_free = view.actions.of_key(NEXT_TASK_KEY) is None
        key = f" ({NEXT_TASK_KEY})" if is_free and len(_comparable(view)) > 1 else ""
        rows: list[Line] = []
        for level in range(_LEVELS):
            rows = [[(f" {task}{key} of ", "muted")]]
            for pin in view.pins:
                entry = self._entry(pin, task, level)
                if len(rows[-1]) > 1 and line_width(rows[-1]) + line_width(entry) > width:
                    rows.append([("    ", "muted")])
                rows[-1] = [*rows[-1], *entry]
            if len(rows) <= height and all(line_width(row) <= width + 2 for row in rows):
                break
        return rows[:height]

    def _entry(self, pin: Pin, task: str, level: int) -> Line:
        """Return a run's entry: in full (0), with a short name (1), as one number (2), (3)."""
        view = self.view
        name = pin.run.id if level == 0 else f"{view.glyphs.ellipsis}{pin.run.id[-_SHORT_NAME:]}"
        role = pin_role(view, pin)
        stages = pin.live.curves.stages
        shown = stages.get(view.stage.name) if view.stage is not None else None
        here = shown.accuracy.get(task) if shown is not None else None
        newest = next(
            (one.accuracy[task] for one in reversed(stages.values()) if task in one.accuracy), None
        )
        values = []
        if here is not None:
            value = self._value(task, here.value_at(view.step))
            values.append(value if level >= 2 else f"{value} at this step")
        if newest is not None and (level < 2 or not values):
            values.append(f"{self._value(task, newest.last_value)} last")
        text = ", ".join(values) or f"no '{task}'"
        called: Line = [] if level == _LEVELS - 1 else [(f"{name} ", "text")]
        return [(f"{pin.sign} ", role), *called, (f"{text}  ", "muted")]

    def _value(self, task: str, value: float | None) -> str:
        if value is None:
            return "–"
        return f"{value:.2f}" if self.view.live.metric(task).is_share else format_value(value)
