"""The step axis that the charts share: stages, danger windows, marks, and weight changes.

Knows curves and activity; draws nothing.
"""

from __future__ import annotations

from sf_tui.tui.activity import CommandRow, Kind
from sf_tui.tui.axes import step_label, step_ticks
from sf_tui.tui.chart import Mark, column_of, plot_width
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.commands import DONE
from sf_tui.vocabulary.ops import op_named

_CELLS_PER_TICK = 11


def stage_keys(view: ViewState, width: int) -> dict[str, str]:
    """Return `s1`, `s2`, … by task where the charts name their stages so; else nothing."""
    curves = view.live.curves
    start, end = view.steps_shown
    columns = plot_width(width)
    shown = _stages_shown(view)
    if len(shown) <= 1 or not width:
        return {}
    begins = [column_of(offset, start, end, columns) for _, offset, _ in shown] + [columns]
    rooms = zip(shown, begins, begins[1:], strict=False)
    if all(len(name) + 1 < behind - first for (name, _, _), first, behind in rooms):
        return {}
    numbers = enumerate(curves.stages.values(), 1)
    return {stage.task: f"s{number}" for number, stage in numbers}


def _stages_shown(view: ViewState) -> list[tuple[str, int, int]]:
    """Return name, first global step and number of steps of each stage in the range."""
    curves = view.live.curves
    start, end = view.steps_shown
    return [
        (name, curves.offset(name), stage.steps)
        for name, stage in curves.stages.items()
        if curves.offset(name) < end and curves.offset(name) + stage.steps > start
    ]


def x_ticks(view: ViewState, width: int) -> list[tuple[int, str]]:
    """Return the ticks of the step axis: step numbers, or names (else keys) of several stages."""
    start, end = view.steps_shown
    many = max(width // _CELLS_PER_TICK, 2)
    shown = _stages_shown(view)
    if len(shown) <= 1:
        offset = shown[0][1] if shown else 0
        return [
            (offset + step, step_label(step))
            for step in step_ticks(start - offset, end - offset, many)
        ]
    numbers = {name: f"s{number}" for number, name in enumerate(view.live.curves.stages, 1)}
    keyed = bool(stage_keys(view, width))
    found = [(offset, numbers[name] if keyed else name) for name, offset, _ in shown]
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
