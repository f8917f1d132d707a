"""What tuning anew would take, in tokens: the old task alone, and the recipe from its beginning.

From a profile's stages and, for a starter, from the recipe that lies with it. Knows no prices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sf_tui.engine.loading import LoadedModel
from sf_tui.engine.prepare import BIOGRAPHY, PreparedTask, read_task
from sf_tui.errors import DataError, ModelError
from sf_tui.profile import Profile, starter_directory
from sf_tui.profile.names import RANDOM_MODEL
from sf_tui.tasks.encoded_examples import encode_all
from sf_tui.tasks.task import Example, Task

RECIPE_FILE = "recipe.json"

_STARTER = "starter:"

# Rows whose mean length stands for a task's: a corpus need not be encoded for a figure beside.
_SAMPLED = 256


@dataclass(frozen=True)
class TaskSize:
    """What a stage's tokens follow from."""

    entries: int
    mean_length: float
    """Tokens of a training example, on average."""


@dataclass(frozen=True)
class RecipeTokens:
    """Tokens of tuning anew."""

    old_task: int | None
    """None where nobody knows how the model came to know it."""
    recipe: int | None
    """All stages, those of the starter included; None where the model's own are unknown."""


def size_of(prepared: PreparedTask) -> TaskSize:
    """Return the size of a task that is prepared already."""
    return TaskSize(len(prepared.train), prepared.mean_length)


def recipe_tokens(
    profile: Profile,
    source: str,
    old: str,
    loaded: LoadedModel,
    known: Mapping[str, TaskSize],
    *,
    played: bool,
) -> RecipeTokens:
    """Return the tokens of all stages and of the old task's own.

    Args:
        profile: whose stages count, each at its full length; the stage `replay` does not.
        source: `[model] source`: a starter brings its recipe, random weights need none.
        old: the old task's name.
        loaded: the model, for its tokenizer.
        known: sizes of tasks that need not be read for it.
        played: whether the profile is a run's, whose stages were played.

    Raises:
        ModelError: a starter's recipe can't be read.
    """
    before = _stages_before(source)
    own: dict[str, int | None] = {}
    for stage in profile.stages() if played else ():
        if stage.name == stage.task:
            size = known.get(stage.task) or _read_size(profile, stage.task, loaded)
            own[stage.name] = None if size is None else _tokens(profile, stage.task, size)
    old_task = own.get(old)
    if old_task is None and before is not None:
        data = profile.task(old).data
        names = {old, data.removeprefix(BIOGRAPHY)}
        old_task = next((one["tokens"] for one in before if one["stage"] in names), None)
    counts = [count for count in own.values() if count is not None]
    if before is None or len(counts) < len(own):
        return RecipeTokens(old_task, None)
    return RecipeTokens(old_task, sum(one["tokens"] for one in before) + sum(counts))


def _tokens(profile: Profile, task: str, size: TaskSize) -> int:
    train = profile.stage_train(task)
    return round(train.total_steps(size.entries) * train.batch_size * size.mean_length)


def _stages_before(source: str) -> list[dict[str, Any]] | None:
    """Return the stages that made a model; None where nothing tells."""
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


def _read_size(profile: Profile, name: str, loaded: LoadedModel) -> TaskSize | None:
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
        # It serves a figure beside the verdict; whoever needs the data is told elsewhere.
        return None
    if not rows:
        return None
    # A conversation may be several examples.
    entries = round(len(task.train) * max(len(rows) / len(sample), 1))
    return TaskSize(entries, sum(len(row.input_ids) for row in rows) / len(rows))


def _sample(task: Task) -> list[Example]:
    count = len(task.train)
    taken = min(count, _SAMPLED)
    return [task.train.example(place * count // taken, 0) for place in range(taken)]
