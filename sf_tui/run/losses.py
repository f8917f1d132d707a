"""How much each earlier task has lost: in the current stage, and since the run began.

A task's reference for the whole run is its first probe as an earlier task: the run's first probe
for a task that the model knew, and the probe after its own stage for one that the run taught. Both
are of the whole held-out split. Reads a folded run; computes nothing that a probe measures.
"""

from __future__ import annotations

from dataclasses import dataclass

from sf_tui.run.stage_state import StageState
from sf_tui.run.state import RunState
from sf_tui.vocabulary.declared import TaskMetrics
from sf_tui.vocabulary.events import Probe
from sf_tui.vocabulary.measured import Drop, Score, drop_between, score_in


@dataclass(frozen=True)
class TaskLoss:
    """One earlier task's scores, and what it lost.

    Attributes:
        task: its name.
        now: its newest score.
        in_stage: the drop since the current stage began, on the same examples.
        since_run: the drop since the run began, or since the run taught it.
    """

    task: str
    now: Score
    in_stage: Drop | None
    since_run: Drop | None

    @property
    def share_lost(self) -> float:
        """The drop since the run began, for comparisons between tasks."""
        return self.since_run.value if self.since_run else 0.0


def score_of(state: RunState, task: str, probe: Probe, *, comparable: bool = False) -> Score | None:
    """Return a task's score in a probe.

    Args:
        state: the run.
        task: the task.
        probe: the probe.
        comparable: use the examples that every probe of the stage scores, even of a full probe.
    """
    metrics: TaskMetrics = probe.comparable if comparable else probe.metrics
    full = probe.full and not comparable
    return score_in(metrics.get(task), state.metric(task), full=full)


def task_losses(
    state: RunState, stage: StageState | None = None, newest: Probe | None = None
) -> list[TaskLoss]:
    """Return the watched earlier tasks of a stage, the largest loss of the run first.

    Args:
        state: the run.
        stage: the stage; the current one if not given.
        newest: the probe with the scores of `now`; the stage's last one if not given.
    """
    stage = stage or state.stage
    if stage is None or not stage.probes:
        return []
    found = []
    for task in state.watched_of(stage.known):
        if task != stage.task:
            loss = _loss_of(state, stage, task, newest or stage.probes[-1])
            if loss is not None:
                found.append(loss)
    return sorted(found, key=lambda loss: -loss.share_lost)


def worst_loss(state: RunState) -> TaskLoss | None:
    """Return the watched earlier task that has lost most since the run began; None without any."""
    return next(iter(task_losses(state)), None)


def _loss_of(state: RunState, stage: StageState, task: str, newest: Probe) -> TaskLoss | None:
    now = score_of(state, task, newest)
    if now is None:
        return None
    in_stage = stage_drop(state, stage, task, newest)
    origin = first_as_earlier(state, task)
    if origin is None:
        return TaskLoss(task, now, in_stage, None)
    if origin is stage.probes[0]:
        # The same reference; the drop on the same examples has the narrower interval.
        return TaskLoss(task, now, in_stage, in_stage)
    start = score_of(state, task, origin)
    return TaskLoss(task, now, in_stage, drop_between(start, now) if start else None)


def stage_drop(state: RunState, stage: StageState, task: str, probe: Probe) -> Drop | None:
    """Return a task's drop from its stage's start to a probe, on the same examples."""
    first = start_of(stage)
    if first is None:
        return None
    comparable = not (first.full and probe.full)
    start = score_of(state, task, first, comparable=comparable)
    now = score_of(state, task, probe, comparable=comparable)
    if start is None or now is None:
        return None
    flips = probe.flips.get(task)
    paired = (flips[0], flips[1]) if flips is not None and len(flips) == 2 else None
    return drop_between(start, now, paired)


def start_of(stage: StageState) -> Probe | None:
    """Return the probe before a stage's first step; None if only a later part of it was read."""
    first = stage.probes[0] if stage.probes else None
    return first if first is not None and first.step == 0 else None


def first_as_earlier(state: RunState, task: str) -> Probe | None:
    """Return the first probe of the run in which a task is an earlier one; None if not read."""
    for stage in state.stages.values():
        if task in stage.known:
            return start_of(stage)
    return None
