from __future__ import annotations

import math

import pytest

from sf_tui.diagnosis.cost import compare_costs
from sf_tui.vocabulary.declared import as_object


def test_the_others_are_reckoned_at_the_pace_and_price_of_the_test() -> None:
    costs = compare_costs(
        seconds=36, tokens=72_000, gpu_hour=2.5, old_task_tokens=720_000, recipe_tokens=7_200_000
    )
    assert as_object(costs.rounded()) == {
        "tokens": 72_000,
        "seconds": 36.0,
        "money": 0.025,
        "tokens_per_second": 2000.0,
        "old_task": {"tokens": 720_000, "seconds": 360.0, "money": 0.25, "share": 0.1},
        "recipe": {"tokens": 7_200_000, "seconds": 3600.0, "money": 2.5, "share": 0.01},
    }


def test_a_pace_of_training_alone_takes_precedence() -> None:
    costs = compare_costs(
        seconds=36, tokens=72_000, tokens_per_second=4000, old_task_tokens=720_000
    )
    assert costs.old_task is not None
    assert costs.old_task.seconds == 180
    assert costs.test.seconds == 36


def test_without_a_price_there_is_no_money() -> None:
    costs = compare_costs(seconds=36, tokens=72_000, old_task_tokens=720_000)
    assert costs.test.money is None
    assert costs.old_task is not None
    assert costs.old_task.money is None
    assert costs.recipe is None
    assert as_object(costs.rounded())["recipe"] is None


@pytest.mark.parametrize(("seconds", "tokens"), [(0, 0), (5, 0), (0, 100)])
def test_a_test_without_a_pace_tells_tokens_only(seconds: float, tokens: int) -> None:
    costs = compare_costs(seconds=seconds, tokens=tokens, gpu_hour=2.5, recipe_tokens=1000)
    assert costs.tokens_per_second is None
    assert costs.recipe is not None
    assert (costs.recipe.tokens, costs.recipe.seconds, costs.recipe.money) == (1000, None, None)


def test_nothing_to_tune_anew_has_no_share() -> None:
    event = as_object(compare_costs(seconds=1, tokens=10, old_task_tokens=0).rounded())
    assert event["old_task"] == {"tokens": 0, "seconds": 0.0, "money": None, "share": None}


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_impossible_figures_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        compare_costs(seconds=seconds, tokens=1)
