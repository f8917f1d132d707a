"""Scores and losses as painted words, in forms from long to short for any room.

Every panel takes its form from here, so that one measurement reads the same everywhere. Knows
scores; knows no widget.
"""

from __future__ import annotations

from sf_tui.run.losses import TaskLoss
from sf_tui.tui.lines import Line
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.measured import Drop, Score, format_drop, format_kl, format_score
from sf_tui.vocabulary.metrics import DEFAULT_METRIC
from sf_tui.vocabulary.sizes import counted


def score_text(view: ViewState, score: Score | None, *, interval: bool = True) -> str:
    """Return a score as `0.26 ± 0.09` in the terminal's signs; `–` for none."""
    text = format_score(score, interval=interval)
    return text.replace("±", view.glyphs.plus_minus)


def count_text(score: Score) -> str:
    """Return how many examples were right, or how many were scored; empty if unknown."""
    if not score.examples:
        return ""
    if score.right is None:
        return counted(score.examples, "example")
    return f"{score.right} of {score.examples}"


def drop_text(drop: Drop | None) -> str:
    """Return a drop in signed points, or with its unit if its metric is no share."""
    text = format_drop(drop)
    if drop is None or drop.after.metric.is_share:
        return text
    return f"{text} {drop.after.metric.unit}"


def is_lost(view: ViewState, drop: Drop | None) -> bool:
    """Return whether a drop reaches the profile's alert."""
    return drop is not None and drop.value >= view.actions.alert_drop


def kl_piece(score: Score) -> Line:
    """Return the divergence from the start model, if it was measured."""
    text = format_kl(score)
    return [(f" {text}", "muted")] if text else []


def loss_forms(view: ViewState, loss: TaskLoss) -> list[Line]:
    """Return an earlier task's score and what it lost, the longest form first."""
    role, marker = view.task_paint(loss.task)
    name = (f"{marker} {loss.task}{metric_note(loss.now)} ", role)
    since, in_stage = loss.since_run, loss.in_stage
    paint = "danger" if is_lost(view, since or in_stage) else "text"
    value, bare = score_text(view, loss.now), score_text(view, loss.now, interval=False)
    counts = count_text(loss.now)
    counted = [(f" ({counts})", "muted")] if counts else []
    counted += kl_piece(loss.now)
    dot = (f" {view.glyphs.middot} ", "muted")
    if since is None and in_stage is None:
        return [[name, (value, "strong"), *counted], [name, (value, "strong")]]
    if since is None:
        lost: Line = [(drop_text(in_stage), paint)]
        return [
            [name, (value, "strong"), *counted, dot, *lost, (" in this stage", "muted")],
            [name, (value, "strong"), dot, *lost, (" in this stage", "muted")],
            [name, (bare, "strong"), dot, *lost],
        ]
    lost = [(drop_text(since), paint)]
    begun, start = (" since the run began", "muted"), (" since start", "muted")
    points = (format_drop(since), paint)
    stage: Line = [(f", {drop_text(in_stage)} in this stage", "muted")] if in_stage else []
    return [
        [name, (value, "strong"), *counted, dot, *lost, begun, *stage],
        [name, (value, "strong"), *counted, dot, *lost, begun],
        [name, (value, "strong"), *counted, dot, points, start],
        [name, (value, "strong"), dot, *lost, begun],
        [name, (value, "strong"), dot, points, start],
        [name, (bare, "strong"), dot, points],
    ]


def task_forms(view: ViewState, task: str, score: Score, drop: Drop | None) -> list[Line]:
    """Return a task's marker, score and points for a legend, the longest form first."""
    role, marker = view.task_paint(task)
    name = (f"{marker} {task}{metric_note(score)} ", role)
    counts = count_text(score)
    counted = [(f" ({counts})", "muted")] if counts else []
    apart = kl_piece(score)
    lost: Line = []
    if drop is not None:
        lost = [(f" {format_drop(drop)}", "danger" if is_lost(view, drop) else "muted")]
    value, bare = score_text(view, score), score_text(view, score, interval=False)
    return [
        [name, (value, "text"), *counted, *apart, *lost],
        [name, (value, "text"), *apart, *lost],
        [name, (bare, "text"), *lost],
    ]


def metric_note(score: Score) -> str:
    """Return the metric's name with a blank before it; empty for the usual one."""
    if score.metric is DEFAULT_METRIC:
        return ""
    return f" {score.metric.name.replace('_', ' ')}"
