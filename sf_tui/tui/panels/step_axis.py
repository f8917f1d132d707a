"""What all charts share: the step axis with its stages, danger windows and marks."""

from __future__ import annotations

from sf_tui.tui.activity import CommandRow, Kind
from sf_tui.tui.axes import step_label, step_ticks
from sf_tui.tui.chart import Mark
from sf_tui.tui.view_state import ViewState

_CELLS_A_NUMBER = 11


def x_ticks(view: ViewState, width: int) -> list[tuple[int, str]]:
    """Return where numbers or stages' names stand under the axis."""
    curves = view.live.curves
    start, end = view.steps_shown
    many = max(width // _CELLS_A_NUMBER, 2)
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
        (curves.offset(name), curves.offset(name) + stage.window)
        for name, stage in curves.stages.items()
        if stage.window and stage.known
    ]


def walls(view: ViewState) -> list[int]:
    """Return the global steps at which later stages begin."""
    curves = view.live.curves
    return [curves.offset(name) for name in curves.stages][1:]


def marks(view: ViewState, *, labels: bool) -> list[Mark]:
    """Return checkpoints, actions, rewinds and verdicts.

    Args:
        view: what is looked at.
        labels: whether they are named in the chart, or only stand on its axis.
    """
    curves, glyphs = view.live.curves, view.glyphs
    found = []
    # A verdict stands for the diagnosis that it came from.
    judged = {(row.stage, row.step) for row in view.live.marks(Kind.VERDICT)}
    kinds = (Kind.CHECKPOINT, Kind.ACTION, Kind.RULE, Kind.REWIND, Kind.VERDICT)
    for row in view.live.marks(*kinds):
        x = curves.x_of(row.stage or "", row.step or 0)
        if x is None:
            continue
        if row.kind is Kind.CHECKPOINT:
            found.append(Mark(x, "", "muted", glyphs.ring))
        elif isinstance(row, CommandRow):
            # A pause changes nothing about the run, and a checkpoint has its own sign.
            if row.op in {"pause", "resume", "checkpoint", "rollback", "stop"}:
                continue
            if row.op == "diagnose" and (row.stage, row.step) in judged:
                continue
            if row.status == "done":
                name = row.action if row.kind is Kind.ACTION else f"{row.action} (rule)"
                found.append(Mark(x, name if labels else "", "ok", glyphs.tasks[1]))
        elif row.kind is Kind.REWIND:
            reason = row.text.partition("(")[2].partition(")")[0]
            found.append(Mark(x, reason if labels else "", "warn", "<"))
        else:
            verdict = row.text.removeprefix("verdict ").partition(":")[0]
            found.append(Mark(x, verdict if labels else "", "strong", "?"))
    return found
