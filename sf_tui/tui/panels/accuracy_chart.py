"""The accuracy chart: one line a task over the whole run, with the danger window as a band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sf_tui.tui.axes import Scale, loss_scale, tick_label, ticks
from sf_tui.tui.chart import Chart, Curve, draw_chart, share_ticks
from sf_tui.tui.lines import Line, Piece, as_many_as_fit
from sf_tui.tui.numbers import format_change, format_share
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.step_axis import bands, marks, walls, x_ticks
from sf_tui.vocabulary.metrics import DEFAULT_METRIC

_SHARES = Scale(0.0, 1.0)


class AccuracyChart(Panel):
    """Held-out accuracy of every task."""

    TITLE: ClassVar[str] = "accuracy"
    IS_CHART: ClassVar[bool] = True
    can_focus = True

    def title_right(self) -> Sequence[Piece]:
        """Return the legend: each task's marker, newest value and change in this stage."""
        view = self.view
        parts = []
        for task in view.tasks:
            now = view.accuracy_now(task)
            if now is None:
                continue
            role, marker = view.task_paint(task)
            metric = view.live.metric(task)
            unit = "" if metric is DEFAULT_METRIC else f" {metric.name.replace('_', ' ')}"
            part: Line = [(f"{marker} {task}{unit} ", role), (format_share(now), "text")]
            start = view.accuracy_at_start(task)
            if start is not None and task in view.known:
                change = format_change(-metric.drop(start, now), metric, unit=False)
                part.append((f" {change}", "muted"))
            parts.append(part)
        return as_many_as_fit(parts, max(self.size.width - 14, 0), "   ")

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the chart, or why there is none yet."""
        view = self.view
        curves = view.live.curves
        if not any(stage.accuracy for stage in curves.stages.values()):
            return [[("  no probe has been taken yet", "muted")]]
        start, end = view.steps_shown
        scales = {task: self._scale(task, start, end) for task in view.tasks}
        drawn = []
        # The task at risk is drawn last, on top.
        for task in reversed(view.tasks):
            role, marker = view.task_paint(task)
            parts = [
                (curves.offset(name), stage.accuracy[task])
                for name, stage in curves.stages.items()
                if task in stage.accuracy
            ]
            if parts:
                drawn.append(Curve(role, marker, parts, scales[task]))
        losses = [task for task in view.tasks if scales[task] is not _SHARES]
        chart = Chart(
            start,
            end,
            drawn,
            y_ticks=share_ticks(height - 2)
            if len(losses) < len(view.tasks)
            else _value_ticks(scales[losses[0]]),
            x_ticks=x_ticks(view, width),
            right_ticks=_value_ticks(scales[losses[0]])
            if 0 < len(losses) < len(view.tasks)
            else (),
            bands=bands(view),
            walls=walls(view),
            marks=marks(view, labels=True),
            cursor=view.cursor,
        )
        return draw_chart(chart, width, height, view.glyphs)

    def _scale(self, task: str, start: int, end: int) -> Scale:
        """Return the axis of a task: shares lie between 0 and 1, nats have an axis of their own."""
        view = self.view
        if view.live.metric(task).is_share:
            return _SHARES
        curves = view.live.curves
        found = [
            stage.accuracy[task].extremes(start - curves.offset(name), end - curves.offset(name))
            for name, stage in curves.stages.items()
            if task in stage.accuracy
        ]
        return loss_scale([pair for pair in found if pair is not None], log=False)


def _value_ticks(scale: Scale) -> list[tuple[float, str]]:
    return [(scale.share(value), tick_label(value)) for value in ticks(scale.low, scale.high, 4)]
