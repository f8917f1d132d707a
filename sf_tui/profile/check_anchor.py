"""Rules of `[anchor]` and `[neighbors]`: which stages can be anchored, and to what.

Opens no data; whether a model proposes enough neighbors shows only at work.
"""

from __future__ import annotations

from collections.abc import Iterator

from sf_tui.errors import did_you_mean
from sf_tui.profile.locate import KeyPath
from sf_tui.profile.names import RANDOM_MODEL
from sf_tui.profile.overlay import overlay_train
from sf_tui.profile.problems import Origin, Problem
from sf_tui.profile.schema import Profile
from sf_tui.profile.train_schema import TrainSettings

WITHOUT_PROMPTS = "biography:pretrain"
ANOTHER_STRATEGY = 'give that task train = {strategy = "seq"}'


def check_anchor(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find stages that can't be anchored, and settings that no step could be made with."""
    trained = _trained(profile)
    for turn, (place, train) in enumerate(trained):
        if train.strategy != "anchor":
            continue
        task = profile.tasks[place]
        path = _strategy_path(place, origin)
        if turn == 0 and profile.model.source == RANDOM_MODEL:
            yield Problem(
                path,
                f"strategy 'anchor' would hold task '{task.name}' to random weights",
                ANOTHER_STRATEGY,
            )
        elif task.data == WITHOUT_PROMPTS:
            yield Problem(
                path,
                f"strategy 'anchor' needs prompts, and the data of task '{task.name}' has none",
                ANOTHER_STRATEGY,
            )
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
            "give one a weight above 0, or leave it out for the default",
            table=2,
        )


def _trained(profile: Profile) -> list[tuple[int, TrainSettings]]:
    """Return the places of the tasks that have a stage, with what it is trained with."""
    base = profile.train.model_dump(exclude_none=True)
    return [
        (place, TrainSettings.model_validate(overlay_train(base, task.train)))
        for place, task in enumerate(profile.tasks)
        if place or task.learn
    ]


def _strategy_path(place: int, origin: Origin) -> KeyPath:
    own = "strategy" in origin.raw["tasks"][place].get("train", {})
    return ("tasks", place, "train", "strategy") if own else ("train", "strategy")


def _check_sizes(profile: Profile, trains: list[TrainSettings]) -> Iterator[Problem]:
    anchor = profile.anchor
    rows = anchor.rows or min((train.batch_size for train in trains), default=0)
    if anchor.cache_size is not None and anchor.cache_size < rows:
        yield Problem(
            ("anchor", "cache_size"),
            f"cache_size = {anchor.cache_size} is less than the {rows} rows of a step",
            "few prompts are learnt by heart; leave it out for fresh ones at every step",
        )
    limits = [train.max_length for train in trains if train.max_length is not None]
    if anchor.answer_tokens is None or not limits or len(limits) < len(trains):
        return
    if anchor.answer_tokens >= max(limits):
        yield Problem(
            ("anchor", "answer_tokens"),
            f"answer_tokens = {anchor.answer_tokens} leaves no token for a prompt: "
            f"max_length is {max(limits)}",
            "make it smaller, or leave it out for the default",
        )


def anchor_notes(profile: Profile) -> list[str]:
    """Return which stages are anchored with nothing to show for it."""
    return [
        f"stage '{profile.tasks[place].name}' is anchored and no earlier task is watched: "
        "nothing will show what the anchor keeps"
        for place, train in _trained(profile)
        if train.strategy == "anchor" and not any(task.watch for task in profile.tasks[:place])
    ]
