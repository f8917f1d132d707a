"""Which checkpoints of a run are on the disk, matched to their events.

The log has when a checkpoint was written; only the folder shows whether it still exists. Reads
folder names, no checkpoint.
"""

from __future__ import annotations

from sf_tui.run.directory import RunDirectory
from sf_tui.run.stage_state import SavedState
from sf_tui.run.state import RunState
from sf_tui.vocabulary.events import CheckpointWritten


def folders_of(run: RunDirectory, stage: str) -> frozenset[str]:
    """Return the names of a stage's checkpoint folders; empty if they can't be listed."""
    try:
        entries = [entry.name for entry in (run.checkpoints / stage).iterdir()]
    except (OSError, ValueError):
        # A forged stage name may hold a null byte, which no path can.
        return frozenset()
    return frozenset(name for name in entries if name.startswith("step-"))


def paths_on_disk(run: RunDirectory, state: RunState) -> frozenset[str] | None:
    """Return the paths of all checkpoint folders as events name them; None if there is none."""
    root = run.checkpoints.relative_to(run.path)
    found = [f"{root / stage / name}" for stage in state.stages for name in folders_of(run, stage)]
    return frozenset(found) if found else None


def existing_states(run: RunDirectory, state: RunState, stage: str) -> list[SavedState]:
    """Return the checkpoints of a stage's current branch that are on the disk, oldest first.

    They include those from before an edit at the same step, which are kept aside.
    """
    names = folders_of(run, stage)
    found = state.stages[stage].saved if stage in state.stages else []
    return [each for each in found if each.name in names]


def existing_checkpoints(run: RunDirectory, state: RunState) -> list[CheckpointWritten]:
    """Return the events of all checkpoints of the current branch that are on the disk."""
    found = []
    for stage in state.stages:
        names = folders_of(run, stage)
        found += [
            event
            for event in state.current_checkpoints(stage)
            if event.path.rpartition("/")[2] in names
        ]
    return found


def newest_checkpoint(run: RunDirectory, state: RunState) -> CheckpointWritten | None:
    """Return the newest checkpoint of the current stage and branch that is on the disk."""
    stage = state.stage
    found = [e for e in existing_checkpoints(run, state) if stage and e.stage == stage.name]
    return found[-1] if found else None
