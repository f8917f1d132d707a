"""A run's checkpoints: which exist, which are valid, and which to keep.

A rollback abandons the checkpoints after its target: they are renamed, so that the run can reuse
their names and no resume starts from them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sf_tui.cases.run_weights import RunRecord, has_model
from sf_tui.engine.checkpoint import Checkpoint, list_checkpoints, start_folder, step_folder
from sf_tui.engine.checkpoint_state import STATE_FILE, DamagedCheckpointError, check_state
from sf_tui.engine.strategies import StageStrategies
from sf_tui.errors import RunError, UsageError
from sf_tui.profile import CheckpointSettings, Profile
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import new_folder, remove
from sf_tui.run.events import read_events
from sf_tui.run.hosted import way_on
from sf_tui.run.references import read_references, references_until
from sf_tui.vocabulary.events import ASIDE
from sf_tui.worker.resume_log import ResumeLog


class CheckpointStore:
    """The checkpoints of one run."""

    def __init__(self, run: RunDirectory, settings: CheckpointSettings) -> None:
        self._run = run
        self._settings = settings

    def path(self, stage: str, step: int) -> Path:
        """Return the folder for the checkpoint of a step."""
        return self._run.checkpoints / stage / step_folder(step)

    def start(self, stage: str) -> Path:
        """Return the checkpoint with the weights that a stage began with."""
        return start_folder(self._run.checkpoints / stage)

    def current(self, stage: str) -> list[Checkpoint]:
        """Return a stage's checkpoints, except abandoned ones, oldest first."""
        return [
            checkpoint for checkpoint in self._found(stage) if ASIDE not in checkpoint.path.name
        ]

    def put_aside_of(self, stage: str) -> list[Checkpoint]:
        """Return the checkpoints that were abandoned, or that another of their step replaced."""
        return [checkpoint for checkpoint in self._found(stage) if ASIDE in checkpoint.path.name]

    def _found(self, stage: str) -> list[Checkpoint]:
        found = list_checkpoints(self._run.checkpoints / stage)
        for checkpoint in found:
            _check(checkpoint, stage)
        return found

    def resume_point(self, stages: list[str], log: ResumeLog) -> Checkpoint | None:
        """Return the checkpoint to resume from: the newest, or the target of a later rollback."""
        for stage in reversed(stages):
            found = self.current(stage)
            voided = log.rewound
            if voided is not None and voided.stage == stage:
                fresh = [checkpoint for checkpoint in found if checkpoint.seq > log.rewound_seq]
                target = [c for c in self._found(stage) if c.path.name == voided.checkpoint]
                found = fresh or target or found
            if found:
                return found[-1]
        return None

    def rollback_target(
        self,
        stage: str,
        step: int,
        name: str | None,
        edited_seq: int = 0,
        rewound_seq: int = 0,
    ) -> Checkpoint:
        """Return the named checkpoint, or the last one before the state to undo.

        A checkpoint from before an edit is kept beside the one from after it, as
        `step-000100~1`; both can be named.

        Args:
            stage: the stage.
            step: its current step; without a name, the last checkpoint before it is returned.
            name: name of the checkpoint, or None.
            edited_seq: number of the event of the last edit between two steps; a checkpoint of
                `step` itself that was written before it counts as earlier.
            rewound_seq: number of the event of the last rollback; what was kept beside others
                before that is void, and only goes by its name.

        Raises:
            UsageError: there is no such checkpoint; the message lists those that exist.
        """
        there = [c for c in self._found(stage) if c.step <= step]
        found = [c for c in there if ASIDE not in c.path.name or c.seq > rewound_seq]
        if name is not None:
            # `step-000100`, the same with its stage, or the path in the `checkpoint` event.
            named = [c for c in there if f"/checkpoints/{stage}/{c.path.name}".endswith(f"/{name}")]
            if not named:
                names = ", ".join(c.path.name for c in found) or "none"
                raise UsageError(
                    f"stage '{stage}' has no checkpoint '{name}' to go back to",
                    f"there are: {names}",
                )
            return named[0]
        earlier = [
            c for c in found if c.seq < edited_seq or (c.step < step and ASIDE not in c.path.name)
        ]
        if not earlier:
            raise UsageError(
                f"stage '{stage}' has no checkpoint before step {step}", "nothing to roll back"
            )
        return max(earlier, key=lambda c: (c.step, c.seq))

    def abandon_after(self, stage: str, step: int, target: str | None = None) -> None:
        """Rename the checkpoints of a stage after `step`.

        Args:
            stage: the stage.
            step: the step that the stage continues from.
            target: name of the checkpoint that it continues from; another one of the same step is
                from after an edit that is undone.
        """
        for checkpoint in self.current(stage):
            if _is_void(checkpoint, step, target):
                self.put_aside(checkpoint)

    def settle(self, stage: str, last_step: int, log: ResumeLog) -> None:
        """Complete operations that a kill may have interrupted: abandoning and pruning."""
        voided = log.rewound
        if voided is not None and voided.stage == stage:
            for checkpoint in self.current(stage):
                void = _is_void(checkpoint, voided.step, voided.checkpoint)
                if void and checkpoint.seq < log.rewound_seq:
                    self.put_aside(checkpoint)
        self.prune(stage, last_step)

    def put_aside(self, checkpoint: Checkpoint) -> None:
        """Rename a checkpoint, so that another one of the same step can be written."""
        checkpoint.path.rename(self._aside(checkpoint))

    def keep_aside(self, checkpoint: Checkpoint) -> None:
        """Keep a copy of a checkpoint beside it: another of its step is about to replace it.

        A kill before that leaves the checkpoint where it is: a stage's first has none before it.
        The next worker finds its copy and makes no other.

        Raises:
            RunError: the copy can't be made.
        """
        if any(
            c.step == checkpoint.step and c.seq == checkpoint.seq and c.path != checkpoint.path
            for c in self._found(checkpoint.stage)
        ):
            return
        aside = self._aside(checkpoint)
        writing = aside.with_name(f".{aside.name}.writing")
        try:
            with new_folder(aside, writing) as folder:
                shutil.copytree(
                    checkpoint.path, folder, copy_function=_link_or_copy, dirs_exist_ok=True
                )
        except (OSError, shutil.Error) as error:
            raise RunError(
                f"{checkpoint.path}: can't keep it beside the one that replaces it: {error}",
                "make room on the disk, or check who may write there",
            ) from error

    def _aside(self, checkpoint: Checkpoint) -> Path:
        number = 1
        while (
            aside := checkpoint.path.with_name(f"{checkpoint.path.name}{ASIDE}{number}")
        ).exists():
            number += 1
        return aside

    def prune(self, stage: str, last_step: int) -> None:
        """Delete checkpoints that the profile doesn't keep, but never a stage's first or last."""
        found = self._found(stage)
        current = [c for c in found if ASIDE not in c.path.name]
        abandoned = [c for c in found if ASIDE in c.path.name]
        kept = {c.path for c in found if c.step in (0, last_step) or c.state.get("asked_for")}
        # Also keep that many abandoned checkpoints, so that a rollback can be undone. They are
        # counted separately: they must not displace current checkpoints.
        for several in (current, abandoned):
            kept |= {c.path for c in several[-self._settings.keep_last :]}
        scored = [c for c in current if c.state.get("score") is not None]
        scored.sort(key=lambda c: (c.state["score"], c.seq), reverse=True)
        kept |= {c.path for c in scored[: self._settings.keep_best]}
        for checkpoint in found:
            if checkpoint.path not in kept:
                # Rename first: a half-deleted folder must not look like a checkpoint.
                going = checkpoint.path.with_name(f".{checkpoint.path.name}.deleting")
                remove(going)
                checkpoint.path.rename(going)
                remove(going)


def read_record(run: RunDirectory, profile: Profile, name: str | None = None) -> RunRecord:
    """Return a run's progress and its current checkpoint.

    Args:
        run: the run.
        profile: its profile.
        name: the checkpoint of an imported run to take as the current one; None: the newest.

    Raises:
        UsageError: there is no such checkpoint.
        RunError: the run has no weights yet, or its log can't be read.
    """
    log = ResumeLog(read_events(run.events))
    history = log.state
    references = read_references(run)
    if references and history.stage is not None:
        return RunRecord(run, profile, history, None, references_until(references, name))
    if name is not None:
        raise UsageError(
            f"--checkpoint {name}: {run.id} is no imported run; its newest weights are used",
            f"`sf act {run.id} rollback` goes back to a checkpoint of a live run",
        )
    names = [stage.name for stage in profile.stages()]
    point = CheckpointStore(run, profile.checkpoint).resume_point(names, log)
    if history.stage is None or (point is None and not has_model(run)):
        raise RunError(
            f"{run.id}: it has no checkpoint yet, so there are no weights yet",
            way_on(run),
        )
    return RunRecord(run, profile, history, point)


def _is_void(checkpoint: Checkpoint, step: int, target: str | None) -> bool:
    """Return whether a rewind to a checkpoint of a step discards another checkpoint."""
    if checkpoint.step == step:
        return target is not None and checkpoint.path.name != target
    return checkpoint.step > step


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Not every file system has hard links.
        shutil.copyfile(source, target)


def _check(checkpoint: Checkpoint, stage: str) -> None:
    """Check that a stage wrote a checkpoint's state, and that it belongs in its folder."""
    check_state(StageState, checkpoint.state, checkpoint.path)
    name = checkpoint.path.name.partition(ASIDE)[0]
    if checkpoint.stage != stage or step_folder(checkpoint.step) != name:
        raise DamagedCheckpointError(
            f"{checkpoint.path / STATE_FILE}: it is the state of stage '{checkpoint.stage}', step "
            f"{checkpoint.step}, in the folder of another checkpoint",
            checkpoint.path,
        )


HexText = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]


class StoredStrategy(BaseModel):
    """A strategy's state in a checkpoint, except its tensors."""

    model_config = ConfigDict(strict=True)

    on: bool
    facts: dict[str, Any]
    """Facts that match the strategy's schema."""


class WatchState(BaseModel):
    """What a checkpoint stores of a stage's alerts."""

    model_config = ConfigDict(strict=True)

    in_stage: dict[str, float]
    """Each task's loss in the stage at its last alert."""
    since_run: dict[str, float]
    """Each task's loss since the run began at its last alert."""
    best: float | None
    """Best score of the stage's own task."""
    looked: bool
    """Whether the early look at the own task's learning is done."""


class StageState(BaseModel):
    """The keys that `StagePlay.save` adds to a checkpoint's state."""

    model_config = ConfigDict(strict=True)

    logged: int = Field(ge=0)
    """Number of events in the log when it was written."""
    frozen: list[str]
    sticky_frozen: list[str]
    strategies: dict[str, StoredStrategy]
    """By name, in the order in which they were added to the stage."""
    rules_crossed: list[str]
    baseline: dict[str, dict[str, float | None]]
    right_at_start: dict[str, HexText]
    """Which held-out examples of a task were right before the first step, a bit each."""
    right_now: dict[str, HexText]
    """The same at the last probe; empty unless that one scored the whole held-out splits."""
    watch: WatchState
    accuracy: dict[str, dict[str, float | None]]
    probed_at: int | None
    """Step of the probe that gave `accuracy`."""
    score: float | None
    asked_for: bool
    threads: int = Field(ge=1)
    ranks: int = Field(ge=1)
    """Number of processes that trained together."""
    torch: str


def check_fits(
    checkpoint: Checkpoint,
    *,
    layers: Collection[str],
    rules: Collection[str],
    last_step: int,
    strategies: StageStrategies,
) -> None:
    """Check that a checkpoint belongs to a stage of this model and profile.

    Args:
        checkpoint: a stage's checkpoint; its state has the keys of `StageState`.
        layers: names of the model's layers.
        rules: names of the profile's rules.
        last_step: number of steps in the stage.
        strategies: the stage's strategies.

    Raises:
        DamagedCheckpointError: it names unknown layers or rules, or a step beyond the stage's end.
    """
    state = checkpoint.state
    wrong = None
    if checkpoint.step > last_step:
        wrong = f"step {checkpoint.step}, and the stage has {last_step}"
    for key, known in (("frozen", layers), ("sticky_frozen", layers), ("rules_crossed", rules)):
        strange = [name for name in state[key] if name not in known]
        if strange:
            kind = "rule" if key == "rules_crossed" else "layer"
            wrong = f"{key} names '{strange[0]}', a {kind} that there is not"
    if all(name in state["frozen"] for name in layers):
        wrong = "every layer is frozen"
    wrong = strategies.problem(state["strategies"]) or wrong
    if wrong:
        raise DamagedCheckpointError(f"{checkpoint.path / STATE_FILE}: {wrong}", checkpoint.path)
