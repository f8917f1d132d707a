"""Which checkpoints of a run are on the disk, matched to their events.

The log has when a checkpoint was written; only the folder shows whether it still exists. Reads
folder names, no checkpoint. Those of an imported run are outside its directory: they count as long
as their files have the sizes that they had when the run was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sf_tui.errors import RunError
from sf_tui.run.directory import RunDirectory
from sf_tui.run.references import read_references
from sf_tui.run.stage_state import SavedState
from sf_tui.run.state import RunState
from sf_tui.vocabulary.events import CheckpointWritten

Gone = Mapping[str, str]
"""Paths of checkpoints outside a run that can't be used, with the reason."""


def folders_of(run: RunDirectory, stage: str) -> frozenset[str]:
    """Return the names of a stage's checkpoint folders; empty if they can't be listed."""
    try:
        entries = [entry.name for entry in (run.checkpoints / stage).iterdir()]
    except (OSError, ValueError):
        # A forged stage name may hold a null byte, which no path can.
        return frozenset()
    return frozenset(name for name in entries if name.startswith("step-"))


def missing_outside(run: RunDirectory) -> dict[str, str]:
    """Return the paths of an imported run's checkpoints that are gone or changed, with what is."""
    try:
        references = read_references(run)
    except RunError as error:
        # The reader that needs the weights reports it; without the list nothing can be found.
        return {"": error.message}
    return {
        str(one.weights.folder): problem for one in references if (problem := one.weights.missing())
    }


def _is_there(event: CheckpointWritten, name: str, names: frozenset[str], gone: Gone) -> bool:
    if not event.path.startswith("/"):
        return name in names
    return event.path not in gone and "" not in gone and Path(event.path).is_dir()


def paths_on_disk(run: RunDirectory, state: RunState) -> frozenset[str] | None:
    """Return the paths of all checkpoint folders as events name them; None if there is none."""
    root = run.checkpoints.relative_to(run.path)
    found = [f"{root / stage / name}" for stage in state.stages for name in folders_of(run, stage)]
    gone = missing_outside(run)
    found += [e.path for e in state.checkpoints if _is_there(e, "", frozenset(), gone)]
    return frozenset(found) if found else None


def existing_states(run: RunDirectory, state: RunState, stage: str) -> list[SavedState]:
    """Return the checkpoints of a stage's current branch that are on the disk, oldest first.

    They include those from before an edit at the same step, which are kept aside.
    """
    names, gone = folders_of(run, stage), missing_outside(run)
    found = state.stages[stage].saved if stage in state.stages else []
    return [each for each in found if _is_there(each.event, each.name, names, gone)]


def existing_checkpoints(run: RunDirectory, state: RunState) -> list[CheckpointWritten]:
    """Return the events of all checkpoints of the current branch that are on the disk."""
    found = []
    gone = missing_outside(run)
    for stage in state.stages:
        names = folders_of(run, stage)
        found += [
            event
            for event in state.current_checkpoints(stage)
            if _is_there(event, event.path.rpartition("/")[2], names, gone)
        ]
    return found


def newest_checkpoint(run: RunDirectory, state: RunState) -> CheckpointWritten | None:
    """Return the newest checkpoint of the current stage and branch that is on the disk."""
    stage = state.stage
    found = [e for e in existing_checkpoints(run, state) if stage and e.stage == stage.name]
    return found[-1] if found else None
