"""The loss chart: training loss on the left axis, gradient norm on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sf_tui.tui.axes import Scale, log_ticks, loss_scale, tick_label, ticks
from sf_tui.tui.chart import Chart, Curve, draw_chart
from sf_tui.tui.lines import Line, Piece
from sf_tui.tui.numbers import format_value
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.step_axis import bands, marks, walls, x_ticks
from sf_tui.tui.series import MinMaxSeries

Parts = list[tuple[int, MinMaxSeries]]


class LossChart(Panel):
    """Loss and gradient norm of the training batches."""

    TITLE: ClassVar[str] = "training loss"
    IS_CHART: ClassVar[bool] = True
    can_focus = True

    def title_right(self) -> Sequence[Piece]:
        """Return the newest values and which scale the axis has."""
        view = self.view
        stage, place = view.stage, view.place
        if stage is None or stage.loss.last_value is None:
            return ()
        step = None if place is None else place.step
        loss = stage.loss.last_value if step is None else stage.loss.value_at(step)
        norm = stage.grad_norm.last_value if step is None else stage.grad_norm.value_at(step)
        return (
            ("loss ", "text"),
            (format_value(loss), "text"),
            ("   grad norm ", "ok"),
            (format_value(norm), "text"),
            ("   log" if view.log_loss else "   linear", "muted"),
            (" (l)", "muted"),
        )

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the chart, or why there is none yet."""
        view = self.view
        curves = view.live.curves
        losses: Parts = [
            (curves.offset(name), stage.loss) for name, stage in curves.stages.items() if stage.loss
        ]
        norms: Parts = [
            (curves.offset(name), stage.grad_norm)
            for name, stage in curves.stages.items()
            if stage.grad_norm
        ]
        if not losses:
            return [[("  no step has been taken yet", "muted")]]
        start, end = view.steps_shown
        loss_axis = _scale(losses, start, end, view.log_loss)
        norm_axis = _scale(norms, start, end, view.log_loss)
        chart = Chart(
            start,
            end,
            [Curve("ok", "", norms, norm_axis), Curve("text", "", losses, loss_axis)],
            y_ticks=_ticks(loss_axis, height - 2),
            right_ticks=_ticks(norm_axis, height - 2),
            x_ticks=x_ticks(view, width),
            bands=bands(view),
            walls=walls(view),
            marks=marks(view, labels=False),
            cursor=view.cursor,
        )
        return draw_chart(chart, width, height, view.glyphs)


def _scale(parts: Parts, start: int, end: int, log: bool) -> Scale:
    found = [series.extremes(start - offset, end - offset) for offset, series in parts]
    return loss_scale([pair for pair in found if pair is not None], log)


def _ticks(scale: Scale, rows: int) -> list[tuple[float, str]]:
    values = log_ticks(scale) if scale.log else ticks(scale.low, scale.high, max(rows // 3, 2))
    return [(scale.share(value), tick_label(value)) for value in values]
