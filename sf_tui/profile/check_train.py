"""Rules of `[train]` and of what is laid over it by a task or by `[replay_stage]`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from sf_tui.errors import did_you_mean
from sf_tui.profile.locate import KeyPath
from sf_tui.profile.overlay import overlay_train
from sf_tui.profile.problems import Origin, Problem
from sf_tui.profile.schema import Profile
from sf_tui.profile.train_schema import TrainSettings
from sf_tui.profile.translate import problems_of

NOT_IN_RECOVERY_TRAIN = ("steps", "epochs")


def overlay_tables(raw: Mapping[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Return the tables of a raw profile that are laid over `[train]`, with their paths."""
    tasks = raw.get("tasks")
    for place, task in enumerate(tasks if isinstance(tasks, list) else []):
        if isinstance(task, dict) and isinstance(task.get("train"), dict):
            yield ("tasks", place, "train"), task["train"]
    recovery = raw.get("replay_stage")
    if isinstance(recovery, dict) and isinstance(recovery.get("train"), dict):
        yield ("replay_stage", "train"), recovery["train"]


def overlay_problems(raw: Mapping[str, Any]) -> list[Problem]:
    """Find keys and values in the overlay tables that `[train]` would not take."""
    base: dict[str, Any] = {}
    # A mistake in [train] is told there; then the overlays are checked by themselves.
    with contextlib.suppress(ValidationError):
        base = TrainSettings.model_validate(raw.get("train", {})).model_dump(exclude_none=True)
    problems = []
    for path, own in overlay_tables(raw):
        merged = overlay_train(base, own)
        try:
            TrainSettings.model_validate(merged)
        except ValidationError as error:
            details = [one for one in error.errors(include_url=False) if one["loc"][0] in own]
            problems += problems_of(details, merged, model=TrainSettings, above=path)
    return problems


def check_train_tables(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find keys of `[train]`, and of each table laid over it, that contradict each other."""
    own = origin.raw.get("train", {})
    yield from _check_one(("train",), own, profile.train)
    base = profile.train.model_dump(exclude_none=True)
    for path, own in overlay_tables(origin.raw):
        merged = TrainSettings.model_validate(overlay_train(base, own))
        yield from _check_one(path, own, merged)


def _check_one(path: KeyPath, own: Mapping[str, Any], train: TrainSettings) -> Iterator[Problem]:
    if "steps" in own and "epochs" in own:
        yield Problem((*path, "epochs"), "steps and epochs are both given", "take one of them away")
    if ("strategy" in own or "freeze" in own) and train.strategy == "freeze" and not train.freeze:
        yield Problem(
            (*path, "strategy"),
            "strategy 'freeze' needs to know what to freeze",
            "add [train.freeze] with layers (and embeddings)"
            if path == ("train",)
            else "add freeze = {layers = 2}",
        )
    if "freeze" in own and train.strategy != "freeze":
        yield Problem(
            (*path, "freeze"),
            f"a freeze table goes with strategy 'freeze', and strategy is '{train.strategy}'",
            'set strategy = "freeze", or take the table away',
            table=len(path),
        )
    if train.micro_batch > train.batch_size and ("batch_size" in own or "micro_batch_size" in own):
        key = "micro_batch_size" if "micro_batch_size" in own else "batch_size"
        yield Problem(
            (*path, key),
            f"micro_batch_size = {train.micro_batch} is more than batch_size = {train.batch_size}",
            "a batch is worked through in micro-batches; make them no larger than it",
        )


def check_replay_stage(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find a replay stage of an unknown task, or one that says twice how long it is."""
    replay_stage = profile.replay_stage
    names = [task.name for task in profile.tasks]
    if replay_stage.task is not None and replay_stage.task not in names:
        yield Problem(
            ("replay_stage", "task"),
            f"no task is named '{replay_stage.task}'",
            did_you_mean(replay_stage.task, names, "tasks"),
        )
    if replay_stage.steps and replay_stage.task is None and not profile.watched_tasks():
        yield Problem(
            ("replay_stage", "steps"),
            "no task is watched that could be recovered",
            "set task to the one to recover",
        )
    for key in NOT_IN_RECOVERY_TRAIN:
        if key in origin.raw.get("replay_stage", {}).get("train", {}):
            yield Problem(
                ("replay_stage", "train", key),
                f"'{key}' does not stand here: [replay_stage] steps says how long the stage is",
                "set steps in [replay_stage]",
            )
