"""The checkpoints that a run can roll back to, each with its own probe.

Knows the run's state and which folders exist; reads no checkpoint and sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sf_tui.run.checkpoint_folders import existing_states
from sf_tui.run.directory import RunDirectory
from sf_tui.run.stage_state import SavedState, StageState
from sf_tui.run.state import RunState
from sf_tui.vocabulary.measured import Score, score_in


@dataclass(frozen=True)
class RollbackTarget:
    """A checkpoint of the current stage that a run can roll back to.

    Attributes:
        stage: the stage.
        step: its step.
        name: the name of its folder.
        scores: each task's score in the checkpoint's own probe.
        probed_at: step of that probe; None without one.
        beside: which side of an edit at its step it is on, such as `before recover`; else empty.
    """

    stage: str
    step: int
    name: str
    scores: dict[str, Score]
    probed_at: int | None = None
    beside: str = ""


def rollback_targets(run: RunDirectory, state: RunState) -> list[RollbackTarget]:
    """Return the checkpoints that differ from the current weights, newest first.

    Checkpoints that the worker deleted or that a rollback abandoned are not listed.
    """
    stage = state.stage
    if stage is None:
        return []
    found = []
    for saved in existing_states(run, state, stage.name):
        changed = any(change.seq > saved.event.seq for change in stage.weight_changes)
        if saved.event.step < stage.step or changed:
            found.append(_target(state, stage, saved))
    return found[::-1]


def _target(state: RunState, stage: StageState, saved: SavedState) -> RollbackTarget:
    scores = {}
    for task, measures in saved.metrics.items():
        score = score_in(measures, state.metric(task), full=False)
        if score is not None:
            scores[task] = score
    step = saved.event.step
    return RollbackTarget(
        stage.name, step, saved.name, scores, saved.probed_at, _beside(stage, saved)
    )


def _beside(stage: StageState, saved: SavedState) -> str:
    at_step = [change for change in stage.weight_changes if change.step == saved.event.step]
    after = next((change for change in at_step if change.seq > saved.event.seq), None)
    before = next((c for c in reversed(at_step) if c.seq < saved.event.seq), None)
    if after is not None:
        return f"before {after.op}"
    return f"after {before.op}" if before is not None else ""
