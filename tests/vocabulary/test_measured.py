from __future__ import annotations

import pytest

from sf_tui.vocabulary.measured import Score, drop_between, format_drop, format_score, score_in
from sf_tui.vocabulary.metrics import METRICS

EXACT, NLL = METRICS["exact_match"], METRICS["nll"]


@pytest.mark.parametrize(
    ("right", "examples", "text"),
    [
        (26, 101, "0.26 ± 0.09, 26 of 101"),
        (4, 4, "1.00 ± 0.49, 4 of 4"),
        (0, 14, "0.00 ± 0.22, 0 of 14"),
        (577, 600, "0.96 ± 0.02, 577 of 600"),
        (96_200, 100_000, "0.962 ± 0.001, 96200 of 100000"),
    ],
)
def test_score_is_written_with_interval_and_counts(right: int, examples: int, text: str) -> None:
    assert format_score(Score(right / examples, examples, EXACT), counts=True) == text


def test_metric_without_an_interval_has_its_count_only() -> None:
    assert format_score(Score(1.5, 40, NLL), counts=True) == "1.50, 40 examples"


def test_missing_or_infinite_measure_is_no_score() -> None:
    assert score_in(None, EXACT, full=False) is None
    assert score_in({"exact_match": None, "n": 4}, EXACT, full=False) is None
    assert score_in({"nll": float("inf"), "n": 4}, NLL, full=False) is None


def test_drop_on_the_same_examples_has_the_narrower_interval() -> None:
    before, after = Score(0.9, 100, EXACT), Score(0.7, 100, EXACT)
    apart, paired = drop_between(before, after), drop_between(before, after, (20, 0))
    assert apart.estimate is not None
    assert paired.estimate is not None
    assert paired.estimate.width < apart.estimate.width
    assert format_drop(paired) == "−20"


def test_bound_is_exceeded_by_the_whole_interval_only() -> None:
    few = drop_between(Score(1.0, 14, EXACT), Score(11 / 14, 14, EXACT), (3, 0))
    many = drop_between(Score(1.0, 400, EXACT), Score(0.75, 400, EXACT), (100, 0))
    assert few.value > 0.2
    assert not few.exceeds(0.2)
    assert many.exceeds(0.2)


def test_loss_of_a_metric_that_should_fall_is_written_as_its_rise() -> None:
    drop = drop_between(Score(1.0, 40, NLL), Score(1.5, 40, NLL))
    assert drop.value == 0.5
    assert format_drop(drop) == "+0.50"
