"""The accuracy and loss charts, and the loss in one line; their step axis is the same.

Knows curves; `chart` draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.message import Message

from sf_tui.tui.axes import Scale, log_ticks, loss_scale, tick_label, ticks
from sf_tui.tui.chart import (
    GUTTER,
    RIGHT_GUTTER,
    Chart,
    Curve,
    column_of,
    draw_chart,
    plot_width,
    share_ticks,
    step_at,
)
from sf_tui.tui.lines import Line, Piece, bar_of, fit, join, line_width
from sf_tui.tui.numbers import format_value
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.pinned import (
    Parts,
    accuracy_of,
    compared_task,
    loss_of,
    pinned_curves,
    pinned_parts,
)
from sf_tui.tui.panels.score_words import task_forms
from sf_tui.tui.panels.step_axis import bands, marks, stage_keys, walls, weight_changes, x_ticks
from sf_tui.tui.scores import losses, score_now

_SHARES = Scale(0.0, 1.0)


_LEGEND_GAP = "   "
_LEAST_ROWS = 8
"""Rows of the chart that a legend of several lines leaves."""


class ChartPanel(Panel):
    """A chart over the steps of the run; a click moves the replay cursor."""

    IS_CHART: ClassVar[bool] = True
    can_focus = True

    class StepChosen(Message):
        """A step was clicked.

        Attributes:
            x: the global step.
        """

        def __init__(self, x: int) -> None:
            super().__init__()
            self.x = x

    def title(self) -> str:
        """Return the title with the range of steps, if that is not the whole run."""
        view = self.view
        if view.range == "run" or view.stage is None:
            return self.TITLE
        shown = f"stage {view.stage.name}"
        if view.range == "window":
            shown = f"danger window of {view.stage.name}"
        newest = view.newest.curves.x_of(view.stage.name, view.step)
        ahead = newest is not None and newest > view.steps_shown[1]
        return f"{self.TITLE}, {shown}{f' (now at {view.step}, >)' if ahead else ''}"

    def click(self, x: int, row: int) -> None:
        """Choose the step at the pointer."""
        del row
        columns = plot_width(self.size.width)
        if GUTTER <= x < GUTTER + columns:
            self.post_message(self.StepChosen(step_at(x - GUTTER, *self.view.steps_shown, columns)))


class AccuracyChart(ChartPanel):
    """Held-out accuracy of every task."""

    TITLE: ClassVar[str] = "accuracy"
    HELP: ClassVar[str] = (
        "Each task's score on held-out examples, over the steps. A line is broken where an action "
        "changed the weights. < and > change the range; a click moves the replay cursor."
    )
    SIGNS: ClassVar[Sequence[tuple[str, str]]] = (
        ("s1 s2 …", "stages, where their names don't fit; the legend has their tasks"),
    )

    def title_right(self) -> Sequence[Piece]:
        """Return the legend's first line."""
        return self._legend()[0]

    def _legend(self) -> list[Line]:
        """Return each task's marker, score and points since the run began.

        Every task in its shortest form, in as many lines as that takes; in one line longer forms
        where there is room, the task that lost most first. The first line is the title's.
        """
        view = self.view
        lost = {loss.task: loss.since_run or loss.in_stage for loss in losses(view)}
        keys = stage_keys(view, self.size.width)
        entries: dict[str, list[Line]] = {}
        for task in view.tasks:
            score = score_now(view, task)
            if score is not None:
                key: Line = [(f"{keys[task]} ", "muted")] if task in keys else []
                forms = task_forms(view, task, score, lost.get(task))
                entries[task] = [[*key, *form] for form in forms]
        room = max(self.size.width - len(self.title()) - 6, 0)
        shown = {task: forms[-1] for task, forms in entries.items()}
        for level in (1, 0):
            for task in sorted(entries, key=lambda task: task not in lost):
                longer = shown | {task: entries[task][level]}
                if line_width(join(longer.values(), _LEGEND_GAP)) <= room:
                    shown = longer
        lines: list[Line] = [[]]
        for entry in shown.values():
            wider = join([lines[-1], entry], _LEGEND_GAP)
            if line_width(wider) > (room if len(lines) == 1 else self.size.width - GUTTER):
                lines.append(entry)
            else:
                lines[-1] = wider
        return lines

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the rest of the legend and the chart, or a line that explains why it is empty."""
        view = self.view
        curves = view.live.curves
        if not any(stage.accuracy for stage in curves.stages.values()):
            return [[("  no probe has been taken yet", "muted")]]
        more = self._legend()[1:] if self.size.width else []
        more = more[: max(height - 2 - _LEAST_ROWS, 0)]
        lines: list[Line] = [[(" " * GUTTER, "text"), *line] for line in more]
        return [*lines, *self._chart(width, height - len(lines))]

    def _chart(self, width: int, height: int) -> list[Line]:
        view = self.view
        curves = view.live.curves
        start, end = view.steps_shown
        scales = {task: self._scale(task, start, end) for task in view.tasks}
        compared = compared_task(view)
        drawn = pinned_curves(view, accuracy_of(compared), scales[compared], before=1)
        # The probe at the step of an act is the one after it.
        breaks = [step - 1 for step in weight_changes(view)]
        # The task at risk is drawn last, on top.
        for task in reversed(view.tasks):
            role, marker = view.task_paint(task)
            parts = [
                (curves.offset(name), stage.accuracy[task])
                for name, stage in curves.stages.items()
                if task in stage.accuracy
            ]
            if parts:
                drawn.append(Curve(role, marker, parts, scales[task], breaks))
        others = [task for task in view.tasks if scales[task] is not _SHARES]
        chart = Chart(
            start,
            end,
            drawn,
            y_ticks=share_ticks(height - 2)
            if len(others) < len(view.tasks)
            else _value_ticks(scales[others[0]]),
            x_ticks=x_ticks(view, width),
            right_ticks=_value_ticks(scales[others[0]])
            if 0 < len(others) < len(view.tasks)
            else (),
            bands=bands(view),
            walls=walls(view),
            marks=marks(view, labels=True),
            cursor=view.cursor,
        )
        return draw_chart(chart, width, height, view.glyphs)

    def _scale(self, task: str, start: int, end: int) -> Scale:
        """Return a task's scale: 0 to 1 for shares, fitted to the values otherwise."""
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


class LossChart(ChartPanel):
    """Loss and gradient norm of the training batches."""

    TITLE: ClassVar[str] = "training loss"
    HELP: ClassVar[str] = (
        "Loss (left axis) and gradient norm (right axis) of the training batches; each column "
        "shows the lowest and the highest value in it. l makes the axes linear or logarithmic."
    )
    SIGNS: ClassVar[Sequence[tuple[str, str]]] = (
        ("▼", "a loss of zero, or below a logarithmic axis"),
    )

    def title_right(self) -> Sequence[Piece]:
        """Return the newest values and the scale of the axis."""
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
            (f"   {view.glyphs.below} zero", "muted") if self._has_zeros() else ("", "muted"),
        )

    def _has_zeros(self) -> bool:
        """Return whether some values have no place on the logarithmic axis."""
        view = self.view
        if not view.log_loss:
            return False
        start, end = view.steps_shown
        losses, norms = self._parts()
        return any(
            (found := series.extremes(start - offset, end - offset)) is not None and found[0] <= 0
            for offset, series in (*losses, *norms)
        )

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the chart, or a line that explains why it is empty."""
        view = self.view
        losses, norms = self._parts()
        if not losses:
            over = view.live.finished is not None
            reason = "the run ended before its first step" if over else "no step yet"
            return [[(f"  {reason}", "muted")]]
        start, end = view.steps_shown
        breaks = weight_changes(view)
        others = [part for pin in view.pins for part in pinned_parts(view, pin, loss_of)]
        loss_axis = _fitted_scale([*losses, *others], start, end, view.log_loss)
        norm_axis = _fitted_scale(norms, start, end, view.log_loss)
        chart = Chart(
            start,
            end,
            [
                Curve("ok", "", norms, norm_axis, breaks),
                *pinned_curves(view, loss_of, loss_axis, before=0),
                Curve("text", "", losses, loss_axis, breaks),
            ],
            y_ticks=_loss_ticks(loss_axis, height - 2),
            right_ticks=_loss_ticks(norm_axis, height - 2),
            x_ticks=x_ticks(view, width),
            bands=bands(view),
            walls=walls(view),
            marks=marks(view, labels=False),
            cursor=view.cursor,
        )
        return draw_chart(chart, width, height, view.glyphs)

    def _parts(self) -> tuple[Parts, Parts]:
        """Return the losses and the gradient norms of all stages."""
        curves = self.view.live.curves
        stages = [(curves.offset(name), stage) for name, stage in curves.stages.items()]
        return (
            [(offset, stage.loss) for offset, stage in stages if stage.loss],
            [(offset, stage.grad_norm) for offset, stage in stages if stage.grad_norm],
        )


def _fitted_scale(parts: Parts, start: int, end: int, log: bool) -> Scale:
    found = [
        (series.positive_extremes if log else series.extremes)(start - offset, end - offset)
        for offset, series in parts
    ]
    return loss_scale([pair for pair in found if pair is not None], log)


def _loss_ticks(scale: Scale, rows: int) -> list[tuple[float, str]]:
    values = (
        log_ticks(scale, max(rows // 2, 2))
        if scale.log
        else ticks(scale.low, scale.high, max(rows // 3, 2))
    )
    return [(scale.share(value), tick_label(value)) for value in values]


class LossLine(Panel):
    """The loss in one line below the accuracy chart, over the same steps."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the line: lowest bar for the lowest loss in sight, and the newest value."""
        del height
        view = self.view
        stage, place = view.stage, view.place
        columns = plot_width(width)
        bars = view.glyphs.bars
        start, end = view.steps_shown
        curves = view.live.curves
        highest: dict[int, float] = {}
        for name, each in curves.stages.items():
            offset = curves.offset(name)
            for bucket in each.loss.buckets(start - offset, end - offset):
                at = column_of(bucket.x + offset, start, end, columns)
                highest[at] = max(highest.get(at, bucket.high), bucket.high)
        if not highest or stage is None:
            return [[("loss  ", "title"), ("no step yet", "muted")]]
        scale = loss_scale([(value, value) for value in highest.values() if value > 0], True)
        text, last = "", ""
        for column in range(max(highest) + 1):
            if column in highest:
                last = bar_of(scale.share(highest[column]), bars)
            text += last or " "
        now = stage.loss.last_value if place is None else stage.loss.value_at(place.step)
        line: Line = [("loss  ", "title"), (text[:columns], "text")]
        line = fit(line, GUTTER + columns, "")
        return [[*line, (f"{format_value(now):>{RIGHT_GUTTER}}", "text")]]
