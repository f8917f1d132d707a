"""What a run occupies on the disk, and which parts of it can be deleted without losing a result.

Reads names and sizes, follows no link, and deletes only what a plan names. A plan never contains
the first or the last checkpoint of a stage, `model/`, or a log: `sf show`, `sf diagnose`,
`sf recover` and `sf resume` work after it as before.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from sf_tui.run.checkpoint_folders import existing_states
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import read_regular, remove
from sf_tui.run.state import RunState
from sf_tui.vocabulary.events import ASIDE

_CHECKPOINT = re.compile(r"step-(\d{6,})(~\d+)?")
_LOGS = ("events.jsonl", "commands.jsonl", "worker.log", "ranks")
NEIGHBORS = "neighbors"
"""Folder of the start model's answers to neighbor prompts; rebuilt when they are needed."""


@dataclass(frozen=True)
class Usage:
    """Bytes of a run's files, by what they are.

    Attributes:
        model: the final weights and tokenizer.
        checkpoints: all checkpoints.
        count: number of checkpoints.
        neighbors: the cache of neighbor prompts.
        logs: events, commands and the worker's output.
        other: everything else.
    """

    model: int = 0
    checkpoints: int = 0
    count: int = 0
    neighbors: int = 0
    logs: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """All bytes."""
        return self.model + self.checkpoints + self.neighbors + self.logs + self.other


@dataclass(frozen=True)
class Prunable:
    """A folder that can be deleted.

    Attributes:
        path: the folder.
        bytes: its size.
        stage: the stage it belongs to.
        step: the checkpoint's step; None for a cache.
    """

    path: Path
    bytes: int
    stage: str
    step: int | None = None


def usage_of(run: RunDirectory) -> Usage:
    """Return what a run occupies; what can't be read counts as nothing."""
    model = size_of(run.model)
    checkpoints = size_of(run.checkpoints)
    neighbors = size_of(run.path / NEIGHBORS)
    logs = sum(size_of(run.path / name) for name in _LOGS)
    total = size_of(run.path)
    count = sum(1 for stage in _folders(run.checkpoints) for _ in _checkpoints(stage))
    other = max(total - model - checkpoints - neighbors - logs, 0)
    return Usage(model, checkpoints, count, neighbors, logs, other)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; a link counts as itself."""
    try:
        status = path.lstat()
    except OSError:
        return 0
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size
    found: dict[tuple[int, int], int] = {}
    for above, _, files in os.walk(path):
        for name in files:
            try:
                one = os.lstat(os.path.join(above, name))  # noqa: PTH118  thousands of files
            except OSError:
                continue
            # Hard links of the same file occupy the disk once.
            found[one.st_dev, one.st_ino] = one.st_size
    return sum(found.values())


def prunable_of(
    run: RunDirectory, state: RunState, *, keep: int, asked_for: bool, caches: bool
) -> list[Prunable]:
    """Return what can be deleted of a run that has ended.

    Args:
        run: the run.
        state: its folded log.
        keep: number of newest intermediate checkpoints to keep in each stage.
        asked_for: also checkpoints that the operator asked for.
        caches: also the cache of neighbor prompts; a run that may be resumed would have to build it
            again.
    """
    found: list[Prunable] = []
    for stage in _folders(run.checkpoints):
        found += _prunable_checkpoints(run, state, stage, keep, asked_for=asked_for)
    if caches:
        for stage in _folders(run.path / NEIGHBORS):
            found.append(Prunable(stage, size_of(stage), stage.name))
    return found


def delete(found: Prunable) -> None:
    """Delete a folder of a plan; a kill leaves it whole, or as a hidden rest.

    `clear_leftovers` removes such a rest at the next resume.

    Raises:
        OSError: it can't be deleted.
    """
    going = found.path
    if found.step is not None:
        going = found.path.with_name(f".{found.path.name}.deleting")
        remove(going)
        found.path.rename(going)
    remove(going)


def _prunable_checkpoints(
    run: RunDirectory, state: RunState, stage: Path, keep: int, *, asked_for: bool
) -> Iterator[Prunable]:
    steps = {name: step for name, step in _checkpoints(stage)}
    current = [name for name in steps if ASIDE not in name]
    # Weights changed before the first step leave a stage's start beside it, as step-000000~1.
    kept = {name for name, step in steps.items() if step == 0}
    kept |= {min(current, key=steps.__getitem__, default="")}
    kept |= {max(current, key=steps.__getitem__, default="")}
    # After a kill in the middle of a rollback the last one of the branch isn't the highest.
    kept |= {saved.name for saved in existing_states(run, state, stage.name)[-1:]}
    spare = sorted((n for n in steps if n not in kept), key=lambda n: (ASIDE not in n, steps[n]))
    if not asked_for:
        spare = [name for name in spare if not _was_asked_for(stage / name)]
    for name in spare[: len(spare) - keep] if keep else spare:
        path = stage / name
        yield Prunable(path, size_of(path), stage.name, steps[name])


def _was_asked_for(checkpoint: Path) -> bool:
    """Return whether an operator or a rule asked for a checkpoint; its checksum isn't verified."""
    try:
        state = orjson.loads(read_regular(checkpoint / "state.json"))
    except (OSError, orjson.JSONDecodeError):
        return False
    return isinstance(state, dict) and state.get("asked_for") is True


def _checkpoints(stage: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and the step of each checkpoint folder of a stage."""
    for folder in _folders(stage):
        found = _CHECKPOINT.fullmatch(folder.name)
        if found:
            yield folder.name, int(found[1])


def _folders(path: Path) -> list[Path]:
    """Return the folders in a folder, without links, sorted; empty if it is a link itself."""
    if path.is_symlink():
        return []
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [path / name for name in sorted(names)]
