from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sf_tui.diagnosis.arms import strongest_arm
from support.scores import make_arm, right


@pytest.mark.parametrize(
    ("control", "examples", "allowed"),
    [
        (0.0, 50, True),
        (0.08, 200, True),
        # Lower ends by Wilson: 0.20 of 100 -> 0.133; 0.20 of 10 -> 0.057; 0.06 of 5000 -> 0.054.
        (0.20, 100, False),
        (0.20, 10, True),
        (0.06, 5000, True),
        (1.0, 5, False),
    ],
)
def test_control_may_reach_the_floor_and_a_margin(
    control: float, examples: int, allowed: bool
) -> None:
    arm = make_arm(right(3, 5), control=control, control_examples=examples, floor=0.03)
    assert arm.allowed is allowed


def test_a_higher_floor_allows_a_higher_control() -> None:
    assert make_arm(right(3, 5), control=0.55, control_examples=400, floor=0.5).allowed
    assert not make_arm(right(3, 5), control=0.55, control_examples=400, floor=0.25).allowed


def test_without_a_control_nothing_speaks_against_an_arm() -> None:
    assert make_arm(right(3, 5), control=None, control_examples=0).allowed


def test_strongest_is_chosen_on_the_selection_slice_not_on_what_is_reported() -> None:
    lucky = make_arm(right(90, 100), "lucky", selection_accuracy=0.70)
    strong = make_arm(right(85, 100), "strong", selection_accuracy=0.85)
    assert strongest_arm([lucky, strong]) is strong
    assert strongest_arm([strong, lucky]) is strong


def test_an_arm_that_teaches_is_passed_over() -> None:
    teaching = make_arm(right(99, 100), "teaching", selection_accuracy=0.99, control=0.6)
    honest = make_arm(right(40, 100), "honest", selection_accuracy=0.4)
    assert strongest_arm([teaching, honest]) is honest
    assert strongest_arm([teaching]) is None
    assert strongest_arm([]) is None


def test_the_more_thorough_of_two_equals_speaks() -> None:
    dear = make_arm(right(5, 9), "dear", tokens=900)
    cheap = make_arm(right(5, 9), "cheap", tokens=100)
    assert strongest_arm([dear, cheap]) is dear


def test_an_arm_keeps_its_own_copy_of_the_scores() -> None:
    scores = np.array([1.0, 0.0, 1.0, 1.0])
    arm = make_arm(scores)
    scores[:] = 0
    assert arm.accuracy == 0.75


@pytest.mark.parametrize(
    "figures",
    [
        {"recovered": []},
        {"recovered": [2.0]},
        {"control": 1.2},
        {"control": math.nan},
        {"control_examples": 0},
        {"floor": -0.1},
        {"selection_accuracy": math.nan},
        {"seconds": math.inf},
        {"learning_rate": math.nan},
        {"tokens": -1},
    ],
)
def test_impossible_figures_are_refused_by_the_arms_name(figures: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="neighbors"):
        make_arm(**{"recovered": right(3, 5), **figures})
