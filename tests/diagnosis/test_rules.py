"""Which arm decides, and which verdict follows from intervals given by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sf_tui.diagnosis.bootstrap import RecoveryEstimates
from sf_tui.diagnosis.rules import strongest_arm, verdict_of, was_learned
from sf_tui.vocabulary.intervals import Estimate
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


NO_LOSS = Estimate(0.01, -0.01, 0.03)
LOSS = Estimate(0.6, 0.5, 0.7)


def figures(
    recovered: tuple[float, float, float] | None = None,
    share: tuple[float, float, float] | None = None,
    drop: Estimate | None = LOSS,
    start: float | None = 1.0,
) -> RecoveryEstimates:
    """Return estimates that hold what the rule looks at."""
    return RecoveryEstimates(
        examples=100,
        now=Estimate(0.4, 0.3, 0.5),
        start=None if start is None else Estimate(start, start - 0.1, start),
        drop=drop,
        recovered=Estimate(*recovered) if recovered else None,
        gain=None,
        spurious_share=Estimate(*share) if share else None,
        real_share=None,
    )


@pytest.mark.parametrize(
    ("estimates", "verdict", "closed"),
    [
        # No drop, whatever the recovery says.
        (figures((0.1, 0.0, 0.2), (0.0, 0.0, 0.1), drop=NO_LOSS), "none", True),
        (figures(drop=Estimate(0.05, 0.0, 0.101)), "none", False),
        (figures(drop=Estimate(-0.05, -0.09, -0.01)), "none", True),
        # "At most a tenth" is a tenth of the start.
        (figures(drop=Estimate(0.02, -0.01, 0.06), start=0.7), "none", True),
        (figures(drop=Estimate(0.02, -0.01, 0.06), start=0.5), "none", False),
        # A drop and nothing to tell what became of it.
        (figures(), "inconclusive", False),
        (figures((0.98, 0.95, 1.0), (0.9, 0.8, 1.0), None, None), "inconclusive", False),
        # At the bounds.
        (figures((0.95, 0.90, 0.98), (0.9, 0.8, 0.96)), "spurious", True),
        (figures((0.95, 0.899, 0.98), (0.9, 0.8, 0.96)), "inconclusive", False),
        (figures((0.60, 0.54, 0.66), (0.9, 0.8, 1.0), start=0.6), "spurious", True),
        (figures((0.45, 0.40, 0.52), (0.1, 0.0, 0.249)), "real", True),
        (figures((0.45, 0.40, 0.52), (0.1, 0.0, 0.25)), "inconclusive", False),
        # Between.
        (figures((0.7, 0.6, 0.8), (0.5, 0.4, 0.6)), "partial", True),
        (figures((0.6, 0.55, 0.65), (0.3, 0.25, 0.5)), "partial", True),
        # Too wide: over 0.25; another reading; a middle that the ends don't bear out.
        (figures((0.7, 0.6, 0.8), (0.5, 0.37, 0.63)), "inconclusive", False),
        (figures((0.85, 0.78, 0.91), (0.75, 0.65, 0.85)), "inconclusive", False),
        (figures((0.55, 0.5, 0.6), (0.3, 0.2, 0.4)), "inconclusive", False),
        (figures((0.8, 0.7, 0.92), (0.5, 0.24, 0.7)), "inconclusive", False),
        (figures((0.92, 0.85, 0.95), (0.86, 0.75, 0.92)), "inconclusive", False),
        (figures((0.54, 0.48, 0.6), (0.24, 0.15, 0.35)), "inconclusive", False),
        # A small drop of which nothing came back is gone, though 0.9 of the start is there.
        (
            figures((0.94, 0.92, 0.96), (0.0, 0.0, 0.1), Estimate(0.06, 0.04, 0.08)),
            "real",
            True,
        ),
        # A small drop of which some may have come back.
        (
            figures((0.96, 0.94, 0.98), (0.5, 0.1, 0.8), Estimate(0.06, 0.04, 0.08)),
            "inconclusive",
            False,
        ),
    ],
)
def test_verdict_by_the_rule(estimates: RecoveryEstimates, verdict: str, closed: bool) -> None:
    assert verdict_of(estimates) == (verdict, closed)


@pytest.mark.parametrize(
    ("now", "start", "gain", "learned"),
    [
        (Estimate(0.0, 0.0, 0.26), Estimate(0.0, 0.0, 0.26), Estimate(0.0, -0.2, 0.2), False),
        (Estimate(0.3, 0.2, 0.4), Estimate(0.2, 0.1, 0.3), Estimate(0.1, -0.02, 0.2), False),
        (Estimate(0.3, 0.2, 0.4), Estimate(0.2, 0.1, 0.3), Estimate(0.1, 0.01, 0.2), True),
        # Nothing is left to learn.
        (Estimate(0.95, 0.9, 1.0), Estimate(0.95, 0.9, 1.0), Estimate(0.0, -0.1, 0.1), True),
        # Without a start, guessing is what it is held against.
        (Estimate(0.3, 0.2, 0.4), None, None, False),
        (Estimate(0.4, 0.3, 0.5), None, None, True),
    ],
)
def test_a_new_task_was_learned_if_its_score_surely_rose(
    now: Estimate, start: Estimate | None, gain: Estimate | None, learned: bool
) -> None:
    assert was_learned(now, start, gain, floor=0.25) is learned
