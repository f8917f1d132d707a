"""The accuracy and loss charts, and their common step axis: stages, danger windows, marks.

Knows curves and activity; `chart` draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sf_tui.tui.activity import CommandRow, Kind
from sf_tui.tui.axes import Scale, log_ticks, loss_scale, step_label, step_ticks, tick_label, ticks
from sf_tui.tui.chart import Chart, Curve, Mark, draw_chart, share_ticks
from sf_tui.tui.lines import Line, Piece, as_many_as_fit, join, line_width
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
from sf_tui.tui.scores import losses, score_now
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.commands import DONE
from sf_tui.vocabulary.ops import op_named

_SHARES = Scale(0.0, 1.0)
_CELLS_PER_TICK = 11


class AccuracyChart(Panel):
    """Held-out accuracy of every task."""

    TITLE: ClassVar[str] = "accuracy"
    IS_CHART: ClassVar[bool] = True
    can_focus = True

    def title_right(self) -> Sequence[Piece]:
        """Return the legend: each task's marker, score and points since the run began.

        Every task in its shortest form, then longer ones where there is room, the task that lost
        most first.
        """
        view = self.view
        lost = {loss.task: loss.since_run or loss.in_stage for loss in losses(view)}
        entries: dict[str, list[Line]] = {}
        for task in view.tasks:
            score = score_now(view, task)
            if score is not None:
                entries[task] = task_forms(view, task, score, lost.get(task))
        room = max(self.size.width - len(self.TITLE) - 6, 0)
        shown = {task: forms[-1] for task, forms in entries.items()}
        for level in (1, 0):
            for task in sorted(entries, key=lambda task: task not in lost):
                longer = shown | {task: entries[task][level]}
                if line_width(join(longer.values(), "   ")) <= room:
                    shown = longer
        return as_many_as_fit(shown.values(), room, "   ")

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the chart, or a line that explains why it is empty."""
        view = self.view
        curves = view.live.curves
        if not any(stage.accuracy for stage in curves.stages.values()):
            return [[("  no probe has been taken yet", "muted")]]
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


class LossChart(Panel):
    """Loss and gradient norm of the training batches."""

    TITLE: ClassVar[str] = "training loss"
    IS_CHART: ClassVar[bool] = True
    can_focus = True

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


def x_ticks(view: ViewState, width: int) -> list[tuple[int, str]]:
    """Return the ticks of the step axis: step numbers, or names of several stages."""
    curves = view.live.curves
    start, end = view.steps_shown
    many = max(width // _CELLS_PER_TICK, 2)
    shown = [
        (name, curves.offset(name), stage.steps)
        for name, stage in curves.stages.items()
        if curves.offset(name) < end and curves.offset(name) + stage.steps > start
    ]
    if len(shown) <= 1:
        offset = shown[0][1] if shown else 0
        return [
            (offset + step, step_label(step))
            for step in step_ticks(start - offset, end - offset, many)
        ]
    found = [(offset, name) for name, offset, _ in shown]
    _, offset, steps = shown[-1]
    found.append((offset + steps, step_label(steps)))
    return found


def bands(view: ViewState) -> list[tuple[int, int]]:
    """Return the danger windows as global steps."""
    curves = view.live.curves
    return [
        (curves.offset(name) + window.start, curves.offset(name) + window.end)
        for name, stage in curves.stages.items()
        if stage.known
        for window in stage.state.windows
    ]


def weight_changes(view: ViewState) -> list[int]:
    """Return the global steps after which an act changed the weights."""
    curves = view.live.curves
    return [
        curves.offset(name) + change.step
        for name, stage in curves.stages.items()
        for change in stage.state.weight_changes
    ]


def walls(view: ViewState) -> list[int]:
    """Return the global steps at which later stages begin."""
    curves = view.live.curves
    return [curves.offset(name) for name in curves.stages][1:]


def marks(view: ViewState, *, labels: bool) -> list[Mark]:
    """Return checkpoints, actions, rewinds and verdicts.

    Args:
        view: what is looked at.
        labels: whether to name them in the chart; otherwise only the axis shows them.
    """
    curves, glyphs = view.live.curves, view.glyphs
    found = []
    # A verdict replaces the mark of its diagnosis.
    judged = {(row.stage, row.step) for row in view.live.marks(Kind.VERDICT)}
    kinds = (Kind.CHECKPOINT, Kind.ACTION, Kind.RULE, Kind.REWIND, Kind.VERDICT)
    for row in view.live.marks(*kinds):
        x = curves.x_of(row.stage or "", row.step or 0)
        if x is None:
            continue
        if row.kind is Kind.CHECKPOINT:
            found.append(Mark(x, "", "muted", glyphs.ring))
        elif isinstance(row, CommandRow):
            command = row.command
            op = op_named(command.op)
            # A pause does not change the weights, and a checkpoint has its own mark.
            if not op.charted or not command.changed:
                continue
            if op.result_event and (row.stage, row.step) in judged:
                continue
            if command.status == DONE:
                action = command.action
                name = action if row.kind is Kind.ACTION else f"{action} (rule)"
                found.append(Mark(x, name if labels else "", "ok", glyphs.tasks[1]))
        elif row.kind is Kind.REWIND:
            reason = row.text.partition("(")[2].partition(")")[0]
            found.append(Mark(x, reason if labels else "", "warn", "<"))
        else:
            verdict = row.text.removeprefix("verdict ").partition(":")[0]
            found.append(Mark(x, verdict if labels else "", "strong", "?"))
    return found
