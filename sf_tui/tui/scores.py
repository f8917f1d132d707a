"""The scores at the place that the console shows, each with its number of examples.

The newest probe, or in replay the one at the cursor. The state keeps only some probes of a long
stage; between those the curves have the values. Knows a view; knows nothing of text or widgets.
"""

from __future__ import annotations

from dataclasses import dataclass

from sf_tui.run.losses import (
    TaskLoss,
    first_as_earlier,
    score_of,
    stage_drop,
    start_of,
    task_losses,
)
from sf_tui.run.stage_state import DangerWindow, StageState
from sf_tui.tui.live_state import StageCurves
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.declared import Measures
from sf_tui.vocabulary.events import Probe
from sf_tui.vocabulary.measured import Drop, Score, drop_between

RECENT_STEPS = 25
"""Steps over which the newest change is shown."""
_KNOWN_BEFORE = 0.5
"""A model whose share of right answers is above this at a stage's start knows the task already."""


@dataclass(frozen=True)
class NewTask:
    """The task that a stage trains.

    Attributes:
        task: its name.
        now: its score.
        gain: the change since the stage's start; None without a probe at the start.
        not_learned: whether it has not risen although the danger window is over.
    """

    task: str
    now: Score
    gain: Drop | None
    not_learned: bool


@dataclass(frozen=True)
class RecentChange:
    """The change of a task over the newest steps, between two probes of the same weights' line."""

    drop: Drop
    steps: int


def viewed_state(view: ViewState) -> StageState | None:
    """Return the state of the viewed stage."""
    return view.live.stages.get(view.stage.name) if view.stage else None


def viewed_stages(view: ViewState) -> list[StageState]:
    """Return the stages up to the viewed one, in order."""
    found = []
    for stage in view.live.stages.values():
        found.append(stage)
        if view.stage is not None and stage.name == view.stage.name:
            break
    return found


def viewed_window(view: ViewState) -> DangerWindow | None:
    """Return the danger window of the viewed step; None outside of any, and after a run's end."""
    stage = viewed_state(view)
    if stage is None or (view.place is None and view.live.finished is not None):
        return None
    return stage.danger_at(view.step)


def probe_of(view: ViewState, stage: StageState) -> Probe | None:
    """Return a stage's newest probe; of the viewed stage, the one at the replay cursor."""
    place = view.place
    if place is None or place.stage != stage.name:
        return stage.probes[-1] if stage.probes else None
    return _probe_at(view, stage, place.step)


def score_now(view: ViewState, task: str) -> Score | None:
    """Return a task's score at the viewed step; without one in this stage, its last one before."""
    for stage in reversed(viewed_stages(view)):
        probe = probe_of(view, stage)
        score = score_of(view.live, task, probe) if probe is not None else None
        if score is not None:
            return score
    return None


def run_start(view: ViewState, task: str) -> Score | None:
    """Return a task's score before the run's first step."""
    stages = viewed_stages(view)
    start = start_of(stages[0]) if stages else None
    return score_of(view.live, task, start) if start is not None else None


def drop_since_run(view: ViewState, task: str, score: Score) -> Drop | None:
    """Return the drop of an earlier task to a score since the run began, or taught it."""
    origin = first_as_earlier(view.live, task)
    start = score_of(view.live, task, origin) if origin is not None else None
    return drop_between(start, score) if start is not None else None


def losses(view: ViewState) -> list[TaskLoss]:
    """Return the watched earlier tasks of the viewed stage, the largest loss of the run first."""
    stage = viewed_state(view)
    probe = probe_of(view, stage) if stage is not None else None
    return task_losses(view.live, stage, probe) if probe is not None else []


def worst(view: ViewState) -> TaskLoss | None:
    """Return the watched earlier task that lost most since the run began; None without any."""
    return next(iter(losses(view)), None)


def lowest_in(view: ViewState, task: str, first: int, last: int) -> Score | None:
    """Return the worst score of a task's probes in some steps of the viewed stage."""
    stage, curves = viewed_state(view), view.stage
    series = curves.accuracy.get(task) if curves else None
    extremes = series.extremes(first, last) if series else None
    if stage is None or extremes is None:
        return None
    metric = view.live.metric(task)
    return Score(metric.worst(extremes), _examples(view, stage, task), metric)


def new_task(view: ViewState) -> NewTask | None:
    """Return the task of the viewed stage; None before its first probe."""
    stage = viewed_state(view)
    probe = probe_of(view, stage) if stage is not None else None
    if stage is None or probe is None:
        return None
    now = score_of(view.live, stage.task, probe)
    if now is None:
        return None
    gain = stage_drop(view.live, stage, stage.task, probe)
    return NewTask(stage.task, now, gain, gain is not None and _is_not_learned(view, stage, gain))


def recent_change(view: ViewState, task: str) -> RecentChange | None:
    """Return the change over the newest steps, not reaching across an act that changed weights."""
    stage, curves = viewed_state(view), view.stage
    series = curves.accuracy.get(task) if curves else None
    if stage is None or series is None:
        return None
    last = series.step_before(view.step + 1)
    if last is None:
        return None
    # The probe at an act's step is the one after it.
    since = max((act.step for act in stage.weight_changes if act.step <= last), default=0)
    wanted = max(last - RECENT_STEPS, since)
    first = series.step_before(wanted + 1)
    if first is None or first < since:
        first = series.step_after(wanted - 1)
    if first is None or first >= last:
        return None
    before, after = series.value_at(first), series.value_at(last)
    if before is None or after is None:
        return None
    metric, examples = view.live.metric(task), _examples(view, stage, task)
    drop = drop_between(Score(before, examples, metric), Score(after, examples, metric))
    return RecentChange(drop, last - first)


def _is_not_learned(view: ViewState, stage: StageState, gain: Drop) -> bool:
    """Return whether a stage's task has not risen above its start although it should have by now.

    A rise counts if its interval is above zero; without an interval, if it is above zero.
    """
    ended = view.place is None and (stage.finished or view.live.finished is not None)
    if not view.step or (view.step < stage.window and not ended):
        return False
    if gain.before.metric.is_share and gain.before.value >= _KNOWN_BEFORE:
        return False
    return not gain.estimate.high < 0 if gain.estimate else gain.value >= 0


def _probe_at(view: ViewState, stage: StageState, step: int) -> Probe | None:
    """Return a stage's newest probe up to a step, from the curves where it was not kept."""
    kept = next((probe for probe in reversed(stage.probes) if probe.step <= step), None)
    curves = view.live.curves.stages.get(stage.name)
    drawn = _drawn_step(curves, step)
    if curves is None or drawn is None or (kept is not None and kept.step >= drawn):
        return kept
    metrics: dict[str, Measures] = {}
    for task, series in curves.accuracy.items():
        value = series.value_at(step)
        if value is not None:
            examples = _examples(view, stage, task)
            metrics[task] = {view.live.metric_of(task): value, "n": float(examples)}
    return Probe(stage.name, drawn, metrics)


def _drawn_step(curves: StageCurves | None, step: int) -> int | None:
    found = [series.step_before(step + 1) for series in curves.accuracy.values()] if curves else []
    return max((drawn for drawn in found if drawn is not None), default=None)


def _examples(view: ViewState, stage: StageState, task: str) -> int:
    """Return the number of examples that every probe of a stage scores; 0 if unknown."""
    for probe in reversed(stage.probes):
        score = score_of(view.live, task, probe, comparable=True)
        if score is not None:
            return score.examples
    return 0
