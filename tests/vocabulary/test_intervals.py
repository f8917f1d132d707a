from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_tui.vocabulary.intervals import (
    Estimate,
    difference,
    paired_difference,
    score_interval,
    wilson_estimate,
)


@pytest.mark.parametrize(
    ("right", "trials", "low", "high"),
    [
        # n / (n + z²) and its mirror image, z² = 3.8415.
        (5, 5, 0.56552, 1.0),
        (0, 5, 0.0, 0.43448),
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_of_published_cases(
    right: int, trials: int, low: float, high: float
) -> None:
    estimate = wilson_estimate(right, trials)
    assert estimate.value == right / trials
    assert estimate.interval == pytest.approx((low, high), abs=6e-5)


@given(trials=st.integers(1, 500), data=st.data())
def test_wilson_interval_mirrors_and_rises(trials: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, trials))
    ours = wilson_estimate(right, trials)
    mirrored = wilson_estimate(trials - right, trials)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1
    assert ours.low == pytest.approx(1 - mirrored.high)
    if right:
        fewer = wilson_estimate(right - 1, trials)
        assert fewer.low < ours.low
        assert fewer.high < ours.high


def test_trials_that_agree_narrow_the_interval_but_never_to_nothing() -> None:
    coin = score_interval(0.5, 50, 50 * 0.25)
    agreeing = score_interval(0.5, 50, 0.0)
    assert 0 < agreeing[1] - agreeing[0] < 0.3 * (coin[1] - coin[0])


@pytest.mark.parametrize(("right", "trials"), [(0, 0), (3, 2), (-1, 5)])
def test_impossible_counts_are_refused(right: int, trials: int) -> None:
    with pytest.raises(ValueError, match="trials"):
        wilson_estimate(right, trials)
    with pytest.raises(ValueError, match="no trials"):
        score_interval(0.5, 0, 0)


def test_an_interval_includes_its_ends() -> None:
    estimate = Estimate(0.2, -0.1, 0.5)
    assert estimate.width == pytest.approx(0.6)
    assert [estimate.includes(x) for x in (-0.11, -0.1, 0.0, 0.5, 0.51)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_difference_of_independent_shares_of_a_published_case() -> None:
    # Newcombe 1998, "Interval estimation for the difference", table II: 56/70 minus 48/80.
    found = difference(wilson_estimate(56, 70), wilson_estimate(48, 80))
    assert found.interval == pytest.approx((0.0524, 0.3339), abs=6e-5)


def test_difference_of_paired_shares_of_a_published_case() -> None:
    # Newcombe 1998, "paired data", table III: cells 20, 12, 2, 16.
    found = paired_difference(32, 12, 2, 50)
    assert found.value == pytest.approx(0.2)
    assert found.interval == pytest.approx((0.0562, 0.3292), abs=6e-5)


@given(trials=st.integers(1, 300), data=st.data())
def test_paired_difference_is_within_its_ends(trials: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, trials))
    lost = data.draw(st.integers(0, right))
    gained = data.draw(st.integers(0, trials - right))
    found = paired_difference(right, lost, gained, trials)
    assert -1.0 <= found.low <= found.value <= found.high <= 1.0
