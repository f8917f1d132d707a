"""The cost of training again, in tokens: of the old task alone, and of all stages.

Computed from a profile's stages and, for a starter, from its bundled recipe. Knows no prices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sf_tui.engine.loading import LoadedModel
from sf_tui.engine.prepare import BIOGRAPHY, read_task
from sf_tui.errors import DataError, ModelError
from sf_tui.profile import Profile, TrainSettings, starter_directory
from sf_tui.profile.names import RANDOM_MODEL
from sf_tui.tasks.encoded_examples import encode_all
from sf_tui.tasks.task import Example, Task

RECIPE_FILE = "recipe.json"

_STARTER = "starter:"

_SAMPLED = 256
"""Rows whose mean length is a task's estimate; encoding a whole corpus for it costs too much."""


def training_tokens(train: TrainSettings, entries: int, mean_length: float) -> int:
    """Return the tokens that a stage trains on at full length.

    Args:
        train: the stage's settings.
        entries: number of training examples.
        mean_length: mean length of an example, in tokens.
    """
    return round(train.total_steps(entries) * train.batch_size * mean_length)


def retrain_tokens(
    profile: Profile,
    old: str,
    loaded: LoadedModel,
    known: Mapping[str, int],
    *,
    played: bool,
) -> tuple[int | None, int | None]:
    """Return the tokens of training the old task again, and of all stages from the first.

    Each stage counts at full length; the stage `replay` does not count. A starter brings its
    recipe; random weights need none.

    Args:
        profile: of the run or the bare model.
        old: the old task's name.
        loaded: the model, for its tokenizer.
        known: tokens of each task's stage that is already known.
        played: whether the profile is a run's, whose stages have been trained.

    Returns:
        For the old task, None if it is unknown how the model learned it; for all stages, None if
        the stages that produced the model are unknown.

    Raises:
        ModelError: a starter's recipe can't be read.
    """
    before = _stages_before(profile.model.source)
    own: dict[str, int | None] = {}
    for stage in profile.stages() if played else ():
        if stage.name == stage.task:
            own[stage.name] = known.get(stage.task) or _estimate(profile, stage.task, loaded)
    old_task = own.get(old)
    if old_task is None and before is not None:
        data = profile.task(old).data
        names = {old, data.removeprefix(BIOGRAPHY)}
        old_task = next((one["tokens"] for one in before if one["stage"] in names), None)
    counts = [count for count in own.values() if count is not None]
    if before is None or len(counts) < len(own):
        return old_task, None
    return old_task, sum(one["tokens"] for one in before) + sum(counts)


def _stages_before(source: str) -> list[dict[str, Any]] | None:
    """Return the stages that produced a model; None if they are unknown."""
    if source == RANDOM_MODEL:
        return []
    if not source.startswith(_STARTER):
        return None
    file = starter_directory(source) / RECIPE_FILE
    if not file.is_file():
        return None
    try:
        stages: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["stages"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: no recipe: {error}", "reinstall sf") from error
    return stages


def _estimate(profile: Profile, name: str, loaded: LoadedModel) -> int | None:
    """Estimate a stage's tokens from a sample of its rows; None if they can't be read."""
    try:
        task = read_task(profile, profile.task(name))
        sample = _sample(task)
        rows = encode_all(
            sample,
            loaded.tokenizer,
            None,
            on_bad_row="skip",
            control_tokens=profile.task(name).control_tokens,
        ).rows
    except DataError:
        # These rows serve only the cost shown with the verdict; code that depends on them raises.
        return None
    if not rows:
        return None
    # A conversation may become several examples.
    entries = round(len(task.train) * max(len(rows) / len(sample), 1))
    mean_length = sum(len(row.input_ids) for row in rows) / len(rows)
    return training_tokens(profile.stage_train(name), entries, mean_length)


def _sample(task: Task) -> list[Example]:
    count = len(task.train)
    taken = min(count, _SAMPLED)
    return [task.train.example(place * count // taken, 0) for place in range(taken)]
