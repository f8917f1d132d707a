"""Checks of `[train]`, the tables laid over it, strategies, and `[anchor]`.

Opens no data. Whether a model proposes enough neighbors, or a task has examples left to train on,
only shows when the run is prepared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from sf_tui.errors import did_you_mean
from sf_tui.profile.locate import KeyPath
from sf_tui.profile.names import RANDOM_MODEL, REPLAY_STAGE
from sf_tui.profile.problems import Origin, Problem
from sf_tui.profile.schema import Profile, StageSpec, current_schema
from sf_tui.profile.train_schema import (
    ReplayStageSettings,
    TrainSettings,
    overlay_train,
    replay_stage_base,
)
from sf_tui.profile.translate import problems_of
from sf_tui.vocabulary.strategies import STRATEGIES, StrategyDeclaration, StrategySettings

NOT_IN_RECOVERY_TRAIN = ("steps", "epochs")
WITHOUT_PROMPTS = "biography:pretrain"
ANOTHER_STRATEGY = 'give that task train = {strategy = "seq"}'
ANOTHER_REPLAY_STRATEGY = 'give [replay_stage] train = {strategy = "seq"}'


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
    """Find keys and values in the overlay tables that `[train]` would reject."""
    current_schema()
    base: dict[str, Any] = {}
    # Mistakes in [train] are reported elsewhere; then the overlays are checked on their own.
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
    """Find contradicting keys in `[train]` and in each table laid over it."""
    own = origin.raw.get("train", {})
    yield from _check_one(("train",), own, profile.train)
    for path, own in overlay_tables(origin.raw):
        base = (
            replay_stage_base(profile.train, own)
            if path[0] == "replay_stage"
            else profile.train.model_dump(exclude_none=True)
        )
        merged = TrainSettings.model_validate(overlay_train(base, own))
        yield from _check_one(path, own, merged)


def _check_one(path: KeyPath, own: Mapping[str, Any], train: TrainSettings) -> Iterator[Problem]:
    if "steps" in own and "epochs" in own:
        yield Problem((*path, "epochs"), "steps and epochs are both given", "take one of them away")
    yield from _check_strategy_tables(path, own, train)
    if train.micro_batch > train.batch_size and ("batch_size" in own or "micro_batch_size" in own):
        key = "micro_batch_size" if "micro_batch_size" in own else "batch_size"
        yield Problem(
            (*path, key),
            f"micro_batch_size = {train.micro_batch} is more than batch_size = {train.batch_size}",
            "a batch is worked through in micro-batches; make them no larger than it",
        )


def _check_strategy_tables(
    path: KeyPath, own: Mapping[str, Any], train: TrainSettings
) -> Iterator[Problem]:
    used = train.declaration
    key = used.train_key
    if key and used.needs_table and train.table(key) is None and {"strategy", key} & own.keys():
        yield Problem(
            (*path, "strategy"),
            f"strategy '{used.name}' needs its settings",
            _how_to_set(used, path),
        )
    for declaration in STRATEGIES.values():
        key = declaration.train_key
        if key and key in own and declaration is not used:
            yield Problem(
                (*path, key),
                f"{'an' if key[0] in 'aeiou' else 'a'} {key} table goes with strategy "
                f"'{declaration.name}', and strategy is '{used.name}'",
                f'set strategy = "{declaration.name}", or take the table away',
                table=len(path),
            )
    settings = train.table(used.train_key) if used.train_key else None
    if settings is None and used.train_key and used.settings and not used.needs_table:
        settings = used.settings()
    touched = {"strategy", "batch_size", used.train_key} & own.keys()
    if isinstance(settings, StrategySettings) and touched:
        found = settings.problem(train.batch_size)
        if found is not None:
            yield Problem((*path, "strategy"), f"strategy '{used.name}': {found[0]}", found[1])


def _how_to_set(declaration: StrategyDeclaration, path: KeyPath) -> str:
    fields = declaration.settings.model_fields if declaration.settings else {}
    if path != ("train",):
        shown = ", ".join(f"{name} = {value}" for name, value in declaration.examples.items())
        return f"add {declaration.train_key} = {{{shown}}}"
    required = " and ".join(name for name, field in fields.items() if field.is_required())
    others = " and ".join(name for name, field in fields.items() if not field.is_required())
    return f"add [{declaration.table}] with {required}" + (f" (and {others})" if others else "")


def check_replay_stage(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find a replay stage of an unknown task, or one whose length is given twice."""
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
                f"'{key}' is not allowed here: [replay_stage] steps sets the length of the stage",
                "set steps in [replay_stage]",
            )


def check_strategies(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find stages whose strategy lacks what it needs: an earlier task, a trained model, prompts."""
    places = {task.name: place for place, task in enumerate(profile.tasks)}
    for turn, (spec, known) in enumerate(_stages(profile)):
        declaration, is_task = spec.train.declaration, spec.name == spec.task
        path = _strategy_path(places[spec.task] if is_task else None, origin)
        instead = ANOTHER_STRATEGY if is_task else ANOTHER_REPLAY_STRATEGY
        if "old_examples" in declaration.needs and not set(known) - {spec.task}:
            yield Problem(
                path,
                f"strategy '{spec.train.strategy}' needs examples of an earlier task, and task "
                f"'{spec.task}' is the {'first' if is_task else 'only one'}",
                instead,
            )
        elif turn == 0 and declaration.holds_start and profile.model.source == RANDOM_MODEL:
            yield Problem(
                path,
                f"strategy '{spec.train.strategy}' would hold task '{spec.task}' to random weights",
                instead,
            )
        elif (
            "neighbor_prompts" in declaration.needs
            and profile.tasks[places[spec.task]].data == WITHOUT_PROMPTS
        ):
            yield Problem(
                path,
                f"strategy '{spec.train.strategy}' needs prompts, and the data of task "
                f"'{spec.task}' has none",
                instead,
            )
        elif not declaration.divides and profile.launch.sharding == "fsdp2":
            yield Problem(
                path,
                f"strategy '{spec.train.strategy}' needs whole weights in each process, and "
                '[launch] sharding = "fsdp2" divides them',
                f'set sharding = "ddp", or {instead}',
            )


def _stages(profile: Profile) -> list[tuple[StageSpec, list[str]]]:
    """Return the stages with the tasks known before; none that replays a task there is not.

    None at all if a task has the replay stage's name: another rule refuses that profile.
    """
    names = [task.name for task in profile.tasks]
    if REPLAY_STAGE in names:
        return []
    replayed = profile.replay_stage.task
    if replayed is None:
        replayed = next(iter(profile.watched_tasks()), None)
    if replayed not in names:
        profile = profile.model_copy(update={"replay_stage": ReplayStageSettings()})
    return list(profile.stages_with_known())


def check_anchor(profile: Profile) -> Iterator[Problem]:
    """Find settings of `[anchor]` and `[neighbors]` with which no step is possible."""
    trained = _trained(profile)
    names = [task.name for task in profile.tasks]
    for at, name in enumerate(profile.neighbors.exclude_tasks):
        if name not in names:
            yield Problem(
                ("neighbors", "exclude_tasks", at),
                f"no task is named '{name}'",
                did_you_mean(name, names, "tasks"),
            )
    yield from _check_sizes(profile, [train for _, train in trained])
    if not any(weight for _, weight in profile.neighbors.kinds):
        yield Problem(
            ("neighbors", "kinds"),
            "every kind has the weight 0",
            "give one a weight above 0, or omit it for the default",
            table=2,
        )


def _trained(profile: Profile) -> list[tuple[int, TrainSettings]]:
    """Return the index of each task that has a stage, with its training settings."""
    base = profile.train.model_dump(exclude_none=True)
    return [
        (place, TrainSettings.model_validate(overlay_train(base, task.train)))
        for place, task in enumerate(profile.tasks)
        if place or task.learn
    ]


def _strategy_path(place: int | None, origin: Origin) -> KeyPath:
    """Return where the strategy of a task, or of the replay stage (None), is set."""
    if place is None:
        own = "strategy" in origin.raw["replay_stage"].get("train", {})
        return ("replay_stage", "train", "strategy") if own else ("train", "strategy")
    own = "strategy" in origin.raw["tasks"][place].get("train", {})
    return ("tasks", place, "train", "strategy") if own else ("train", "strategy")


def _check_sizes(profile: Profile, trains: list[TrainSettings]) -> Iterator[Problem]:
    anchor = profile.anchor
    rows = anchor.rows or min((train.batch_size for train in trains), default=0)
    if anchor.cache_size is not None and anchor.cache_size < rows:
        yield Problem(
            ("anchor", "cache_size"),
            f"cache_size = {anchor.cache_size} is less than the {rows} rows of a step",
            "few prompts are memorized; omit it for new ones at every step",
        )
    limits = [train.max_length for train in trains if train.max_length is not None]
    if anchor.answer_tokens is None or not limits or len(limits) < len(trains):
        return
    if anchor.answer_tokens >= max(limits):
        yield Problem(
            ("anchor", "answer_tokens"),
            f"answer_tokens = {anchor.answer_tokens} leaves no token for a prompt: "
            f"max_length is {max(limits)}",
            "make it smaller, or omit it for the default",
        )


def strategy_notes(profile: Profile) -> list[str]:
    """Return notes on stages that hold on to the start model without a measurable benefit."""
    return [
        f"stage '{profile.tasks[place].name}' is trained with '{train.strategy}' and no earlier "
        "task is watched: nothing will show what that keeps"
        for place, train in _trained(profile)
        if train.declaration.holds_start and not any(task.watch for task in profile.tasks[:place])
    ]
