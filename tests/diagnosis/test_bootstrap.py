from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sf_tui.diagnosis.bootstrap import RecoveryEstimates, estimate_recovery, paired_difference
from sf_tui.errors import UsageError
from sf_tui.vocabulary.intervals import Estimate, wilson_estimate
from support.scores import right

FEW = 300
"""Resamples where the exact ends don't matter."""


def outcomes(rng: np.random.Generator, n: int, kept: float, back: float) -> list[NDArray[np.bool_]]:
    """Return start, now, recovered: 0.95 known, of it `kept`, of the rest `back` again."""
    start = rng.random(n) < 0.95
    now = start & (rng.random(n) < kept)
    return [start, now, now | (start & (rng.random(n) < back))]


def test_point_values_by_hand() -> None:
    start = [1, 1, 1, 1, 1, 1, 1, 1, 1, 0]
    now = [1, 1, 1, 0, 0, 0, 0, 0, 0, 1]
    recovered = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    found = estimate_recovery(now, recovered, start)
    assert found.examples == 10
    assert found.start is not None
    assert found.drop is not None
    assert found.recovered is not None
    assert found.gain is not None
    assert found.spurious_share is not None
    assert found.real_share is not None
    assert found.start.value == pytest.approx(0.9)
    assert found.now.value == pytest.approx(0.4)
    assert found.recovered.value == pytest.approx(0.6)
    assert found.drop.value == pytest.approx(0.5)
    assert found.gain.value == pytest.approx(0.2)
    assert found.spurious_share.value == pytest.approx(0.4)
    assert found.real_share.value == pytest.approx(0.6)


def test_interval_of_a_plain_accuracy_is_the_textbook_one() -> None:
    # Normal approximation at n = 400, p = 0.3: 0.3 ± 1.96 · 0.0229.
    found = estimate_recovery(right(120, 400)).now
    assert found.interval == pytest.approx((0.3 - 0.0449, 0.3 + 0.0449), abs=0.006)


def test_pairing_makes_a_drop_of_the_same_examples_certain() -> None:
    start = right(100, 200)
    paired = estimate_recovery(right(80, 200), start=start).drop
    unpaired = estimate_recovery(~right(120, 200), start=start).drop
    assert paired is not None
    assert unpaired is not None
    assert paired.value == pytest.approx(unpaired.value) == pytest.approx(0.1)
    assert paired.low > 0 > unpaired.low
    assert paired.width < 0.5 * unpaired.width


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(20)
    truth = {"recovered": 0.95 * 0.7, "drop": 0.95 * 0.6, "gain": 0.95 * 0.3, "spurious_share": 0.5}
    misses = dict.fromkeys(truth, 0)
    width = 0.0
    for _ in range(400):
        start, now, recovered = outcomes(rng, 60, kept=0.4, back=0.5)
        found = estimate_recovery(now, recovered, start, resamples=FEW)
        assert found.spurious_share is not None
        width += found.spurious_share.width / 400
        for name, value in truth.items():
            misses[name] += not getattr(found, name).includes(value)
    # 400 trials at 5 %: 20 expected, 33 at three standard deviations.
    assert all(missed <= 33 for missed in misses.values()), misses
    # Not by being wide: a share of about 34 lost examples has ±0.17 at best.
    assert width < 0.40


def test_five_of_five_are_not_certain() -> None:
    found = estimate_recovery(right(0, 5), right(5, 5), right(5, 5))
    assert found.recovered == wilson_estimate(5, 5)
    assert found.now == wilson_estimate(0, 5)
    assert found.drop is not None
    assert found.spurious_share is not None
    assert 0 < found.drop.low < 0.5
    assert found.spurious_share.interval == pytest.approx(wilson_estimate(5, 5).interval)


def test_no_change_at_all_is_no_proof_of_no_loss() -> None:
    few = estimate_recovery(right(5, 5), start=right(5, 5)).drop
    many = estimate_recovery(right(500, 500), start=right(500, 500)).drop
    assert few is not None
    assert many is not None
    assert few.interval == pytest.approx((-0.434, 0.434), abs=1e-3)
    assert many.interval == pytest.approx((-0.0076, 0.0076), abs=1e-4)


@pytest.mark.parametrize(("lost", "seen"), [(4, False), (5, False), (8, True), (12, True)])
def test_a_drop_needs_as_many_lost_examples_as_the_sign_test(lost: int, seen: bool) -> None:
    # Two-sided sign test: 5 of 5 in one direction is 0.06, 8 of 8 is 0.008.
    drop = estimate_recovery(right(100 - lost, 100), start=right(100, 100)).drop
    assert drop is not None
    assert (drop.low > 0) is seen


def test_one_more_right_never_lowers_the_lower_end() -> None:
    lows = [estimate_recovery(right(k, 40)).now.low for k in range(41)]
    assert lows == sorted(lows)


def test_share_of_a_drop_that_may_not_exist_is_left_open() -> None:
    now, start = right(52, 100), np.roll(right(55, 100), 30)
    found = estimate_recovery(now, now, start)
    assert found.drop is not None
    assert found.drop.low < 0 < found.drop.value
    assert found.spurious_share is not None
    assert found.spurious_share.interval == (0, 1)


@pytest.mark.parametrize(("lost", "back"), [(10, 10), (10, 9), (8, 3), (40, 20), (10, 0)])
def test_share_is_known_no_better_than_from_the_lost_examples_alone(lost: int, back: int) -> None:
    found = estimate_recovery(
        right(1000 - lost, 1000), right(1000 - lost + back, 1000), right(1000, 1000)
    ).spurious_share
    alone = wilson_estimate(back, lost)
    assert found is not None
    assert found.value == pytest.approx(alone.value)
    assert found.low <= alone.low + 0.001
    assert found.high >= alone.high - 0.001
    assert found.width < alone.width + 0.2


@pytest.mark.parametrize("now", [right(50, 60), right(60, 60)])
def test_without_a_drop_there_is_no_share(now: NDArray[np.bool_]) -> None:
    found = estimate_recovery(now, right(60, 60), right(50, 60))
    assert found.spurious_share is None
    assert found.real_share is None
    assert found.gain is not None


def test_a_recovery_beyond_the_start_is_all_spurious() -> None:
    found = estimate_recovery(right(100, 400), right(395, 400), right(300, 400))
    assert found.spurious_share is not None
    assert found.spurious_share.value == 1
    assert found.spurious_share.low > 0.9


def test_graded_scores_that_agree_are_known_better_than_coins() -> None:
    rng = np.random.default_rng(0)
    graded = estimate_recovery(0.5 + 0.05 * rng.standard_normal(50)).now
    coin = estimate_recovery(right(25, 50)).now
    assert graded.width < 0.3 * coin.width


class TestStartAsOneNumber:
    def test_exact_number_leaves_only_the_uncertainty_of_now(self) -> None:
        found = estimate_recovery(right(12, 60), right(45, 60), 0.9)
        assert found.start == Estimate(0.9, 0.9, 0.9)
        assert found.drop is not None
        assert found.drop.value == pytest.approx(0.7)
        assert found.drop.interval == pytest.approx(
            (0.9 - found.now.high, 0.9 - found.now.low), abs=1e-9
        )
        assert found.spurious_share is not None
        assert found.spurious_share.value == pytest.approx((0.75 - 0.2) / 0.7)

    def test_a_number_of_few_examples_widens_drop_and_share(self) -> None:
        def measure(start_examples: int | None) -> RecoveryEstimates:
            return estimate_recovery(
                right(12, 60), right(30, 60), 0.9, start_examples=start_examples
            )

        exact, few = measure(None), measure(20)
        for name in ("start", "drop", "spurious_share", "real_share"):
            assert getattr(few, name).low < getattr(exact, name).low
            assert getattr(few, name).high > getattr(exact, name).high
            assert getattr(few, name).value == getattr(exact, name).value
        assert few.now == exact.now

    def test_agrees_with_newcombe_for_independent_shares(self) -> None:
        # Newcombe 1998, table II, method 10: 56/70 - 48/80 = 0.2, 0.0524 to 0.3339.
        drop = estimate_recovery(right(48, 80), start=56 / 70, start_examples=70).drop
        assert drop is not None
        assert drop.interval == pytest.approx((0.0524, 0.3339), abs=0.012)
        assert drop.low <= 0.0525
        assert drop.high >= 0.3338

    def test_all_right_now_is_not_certain(self) -> None:
        found = estimate_recovery(right(5, 5), start=0.9)
        assert found.drop is not None
        assert found.drop.interval == pytest.approx((-0.1, -0.1 + 0.434), abs=1e-3)

    def test_doubt_of_the_number_alone_reaches_as_far_as_drawn_and_as_scored(self) -> None:
        # Of 10 with 0.8: up to 1.0 and down to 0.5 within 95 %, so that 0.4 is a share of 0.4 to
        # 0.8 as drawn; the score interval is 0.5 ± 0.16.
        found = estimate_recovery(right(0, 1000), right(400, 1000), 0.8, start_examples=10)
        assert found.drop is not None
        assert found.spurious_share is not None
        assert found.drop.interval == pytest.approx((0.49, 1.0), abs=0.011)
        assert found.spurious_share.low == pytest.approx(0.34, abs=0.01)
        assert found.spurious_share.high == pytest.approx(0.8, abs=0.04)

    def test_intervals_cover_the_truth(self) -> None:
        rng = np.random.default_rng(4)
        misses = 0
        for _ in range(300):
            _, now, recovered = outcomes(rng, 60, kept=0.4, back=0.5)
            number = rng.binomial(40, 0.95) / 40
            found = estimate_recovery(now, recovered, number, start_examples=40, resamples=FEW)
            assert found.spurious_share is not None
            misses += not found.spurious_share.includes(0.5)
        # 300 trials at 5 %: 15 expected, 26 at three standard deviations.
        assert misses <= 26

    def test_percent_for_share_is_told(self) -> None:
        with pytest.raises(UsageError, match=r"did you mean 0\.93"):
            estimate_recovery(right(3, 6), start=93)
        with pytest.raises(UsageError, match="isn't between 0 and 1"):
            estimate_recovery(right(3, 6), start=-0.2)


def test_without_a_start_only_what_needs_none_is_told() -> None:
    found = estimate_recovery(right(20, 100), right(70, 100))
    assert found.start is found.drop is found.spurious_share is found.real_share is None
    assert found.gain is not None
    assert found.gain.value == pytest.approx(0.5)
    assert found.gain.low > 0.35


def test_paired_difference_of_two_arms() -> None:
    better = paired_difference(right(90, 100), right(70, 100))
    assert better.value == pytest.approx(0.2)
    assert 0.05 < better.low < 0.2 < better.high < 0.35
    same = paired_difference(right(70, 100), right(70, 100))
    assert same.value == 0
    assert same.includes(0)
    assert same.width > 0


def test_same_seed_same_intervals_whatever_the_order() -> None:
    rng = np.random.default_rng(3)
    start, now, recovered = outcomes(rng, 80, kept=0.4, back=0.5)
    order = rng.permutation(80)
    first = estimate_recovery(now, recovered, start, seed=1)
    shuffled = estimate_recovery(now[order], recovered[order], start[order], seed=1)
    other = estimate_recovery(now, recovered, start, seed=2)
    assert first == shuffled
    assert first != other


def test_many_graded_examples_are_drawn_in_parts_like_few() -> None:
    # 3000 distinct rows: more than one part of the resamples.
    rng = np.random.default_rng(5)
    now = rng.random(3000)
    found = estimate_recovery(now, resamples=1500).now
    expected = 1.96 * math.sqrt(now.var() / 3000)
    assert found.high - found.value == pytest.approx(expected, rel=0.15)
    assert found.value - found.low == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("now", "start", "message"),
    [
        ([], None, "one score an example"),
        ([[0.5]], None, "one score an example"),
        ([0.5, 1.5], None, "between 0 and 1"),
        ([0.5, math.nan], None, "between 0 and 1"),
        ([0.5, 0.5], [1, 1, 1], "not the same examples"),
    ],
)
def test_what_is_no_score_is_refused(
    now: list[float], start: list[float] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_recovery(now, start=start)


scores = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1, allow_subnormal=False))
rows = st.lists(st.tuples(scores, scores, scores), min_size=1, max_size=12)


@given(rows=rows)
def test_every_interval_holds_its_value_within_the_possible(
    rows: list[tuple[float, float, float]],
) -> None:
    start, now, recovered = (list(column) for column in zip(*rows, strict=True))
    found = estimate_recovery(now, recovered, start, resamples=50)
    bounds = {"drop": -1, "gain": -1}
    for name in ("start", "now", "recovered", "drop", "gain", "spurious_share", "real_share"):
        estimate = getattr(found, name)
        if estimate is not None:
            assert bounds.get(name, 0) <= estimate.low <= estimate.value <= estimate.high <= 1
            assert estimate.width > 0 or estimate.interval == (0, 0)
    if found.spurious_share is not None:
        assert found.real_share is not None
        assert found.spurious_share.value + found.real_share.value == pytest.approx(1)
        assert found.spurious_share.low + found.real_share.high == pytest.approx(1)
