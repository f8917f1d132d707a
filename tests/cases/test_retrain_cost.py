"""What tuning anew would take: a starter brings its recipe, random weights need none."""

from __future__ import annotations

import json

import pytest

from sf_tui.cases.retrain_cost import RECIPE_FILE, retrain_tokens
from sf_tui.engine.batches import BatchOrder, FixedSource
from sf_tui.engine.compute import choose_compute
from sf_tui.engine.loading import LoadedModel, load_model
from sf_tui.engine.prepare import read_task
from sf_tui.profile import Profile, load_profile, starter_directory
from sf_tui.tasks.encoded_examples import encode_all
from sf_tui.tasks.task import FixedExamples

STARTER = "starter:biography-mini"


@pytest.fixture(scope="module")
def mini() -> tuple[Profile, LoadedModel]:
    profile = load_profile("biography-mini")
    compute = choose_compute("float32", 1)
    return profile, load_model(profile.model, profile.base_dir, compute, seed=0)


def test_the_starters_recipe_is_that_of_its_own_profile(mini: tuple[Profile, LoadedModel]) -> None:
    file = starter_directory(STARTER) / RECIPE_FILE
    told = {one["stage"]: one for one in json.loads(file.read_text())["stages"]}
    profile = load_profile("biography-starter")
    stages = {stage.name: stage for stage in profile.stages()}

    assert {name: one["steps"] for name, one in told.items()} == {
        name: stage.train.steps for name, stage in stages.items()
    }
    train = read_task(profile, profile.task("old")).train
    assert isinstance(train, FixedExamples)
    rows = encode_all(train.examples, mini[1].tokenizer).rows
    order = BatchOrder(FixedSource(rows), 64, profile.seed, "old", length_grouped=True)
    tokens = sum(
        len(rows[index].input_ids)
        for step in range(1, told["old"]["steps"] + 1)
        for index, _ in order.entries(step)
    )
    assert told["old"]["tokens"] == tokens


def test_a_run_on_the_starter_costs_the_recipe_and_its_own_stage(
    mini: tuple[Profile, LoadedModel],
) -> None:
    profile, loaded = mini

    alone = retrain_tokens(profile, "old", loaded, {}, played=False)
    whole = retrain_tokens(profile, "old", loaded, {}, played=True)
    assert alone[0] == whole[0] == 157802
    assert alone[1] is not None
    assert whole[1] is not None
    assert 150_000 < whole[1] - alone[1] < 200_000


def test_what_a_foreign_model_cost_is_unknown(mini: tuple[Profile, LoadedModel]) -> None:
    model = mini[0].model.model_copy(update={"source": "org/model"})
    profile = mini[0].model_copy(update={"model": model})

    assert retrain_tokens(profile, "old", mini[1], {}, played=True) == (None, None)
    assert retrain_tokens(profile, "new", mini[1], {}, played=True)[0] is not None
