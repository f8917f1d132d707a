from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_tui.diagnosis.calibration import (
    CalibrationBin,
    calibration_table,
    confusion_matrix,
    labelling_accuracy,
    share_errors,
    spearman,
)
from sf_tui.vocabulary.verdicts import VERDICTS


def test_confusion_matrix_has_a_row_for_what_is_true() -> None:
    true = ["real", "real", "spurious", "none"]
    said = ["real", "spurious", "spurious", "inconclusive"]
    counts = confusion_matrix(true, said)
    place = {name: index for index, name in enumerate(VERDICTS)}
    assert counts.shape == (5, 5)
    assert counts.sum() == 4
    assert counts[place["real"], place["real"]] == 1
    assert counts[place["real"], place["spurious"]] == 1
    assert counts[place["spurious"], place["real"]] == 0
    assert counts[place["spurious"], place["spurious"]] == 1
    assert counts[place["none"], place["inconclusive"]] == 1


def test_confusion_matrix_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="gone"):
        confusion_matrix(["real"], ["gone"])
    with pytest.raises(ValueError, match="shorter"):
        confusion_matrix(["real", "real"], ["real"])


def test_accuracy_with_its_interval() -> None:
    # Newcombe 1998: Wilson for 81 of 263.
    true = ["real"] * 263
    said = ["real"] * 81 + ["partial"] * 182
    found = labelling_accuracy(true, said)
    assert found.value == pytest.approx(81 / 263)
    assert found.interval == pytest.approx((0.2553, 0.3662), abs=6e-5)
    with pytest.raises(ValueError, match="no trials"):
        labelling_accuracy([], [])


@pytest.mark.parametrize(
    ("x", "y", "rho"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [9, 7, 5, 1], -1.0),
        # No ties: 1 - 6 · (1 + 1) / (4 · 15).
        ([1, 2, 3, 4], [2, 1, 3, 4], 0.8),
        # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: 4.5 / sqrt(4.5 · 5).
        ([1, 2, 2, 4], [1, 2, 3, 4], 4.5 / math.sqrt(4.5 * 5)),
        # Ranks 1.5, 1.5, 3, 4 and 2, 2, 2, 4, deviations (-1, -1, .5, 1.5), (-.5, -.5, -.5, 1.5):
        # products .5 + .5 - .25 + 2.25, squares 4.5 and 3.
        ([0, 0, 5, 7], [3, 3, 3, 8], 3.0 / math.sqrt(4.5 * 3)),
    ],
)
def test_spearman_by_hand(x: list[float], y: list[float], rho: float) -> None:
    assert spearman(x, y) == pytest.approx(rho)
    assert spearman(y, x) == pytest.approx(rho)


@pytest.mark.parametrize(("x", "y"), [([1], [2]), ([1, 1, 1], [1, 2, 3]), ([1, 2], [5, 5])])
def test_spearman_of_what_does_not_vary_is_none(x: list[float], y: list[float]) -> None:
    assert spearman(x, y) is None


values = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=20)


@given(pairs=values)
def test_spearman_sees_only_order(pairs: list[tuple[int, int]]) -> None:
    x, y = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    rho = spearman(x, y)
    if rho is None:
        assert np.ptp(x) == 0 or np.ptp(y) == 0
        return
    assert -1 <= rho <= 1
    assert spearman(np.exp(x), y**3) == pytest.approx(rho)
    assert spearman(-x, y) == pytest.approx(-rho)


def test_errors_of_shares() -> None:
    found = share_errors([0.9, 0.1, 0.5], [0.8, 0.1, 0.9])
    assert found.mean_absolute == pytest.approx(0.5 / 3)
    assert found.largest == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("ours", "theirs"), [([], []), ([0.1], [0.1, 0.2]), ([math.nan], [0.1]), ([0.1], [math.inf])]
)
def test_errors_of_what_is_no_pair_are_refused(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match=r"cases|finite"):
        share_errors(ours, theirs)
    with pytest.raises(ValueError, match=r"cases|finite"):
        spearman(ours, theirs)


def test_calibration_by_bins() -> None:
    table = calibration_table([0.0, 0.1, 0.5, 0.9, 1.0], [0.2, 0.0, 0.4, 1.0, 0.8], bins=4)
    assert [(entry.low, entry.high, entry.cases) for entry in table] == [
        (0.0, 0.25, 2),
        (0.25, 0.5, 0),
        (0.5, 0.75, 1),
        (0.75, 1.0, 2),
    ]
    assert table[0].mean_share == pytest.approx(0.05)
    assert table[0].mean_reference == pytest.approx(0.1)
    assert table[1] == CalibrationBin(0.25, 0.5, 0, None, None)
    assert table[3].mean_share == pytest.approx(0.95)
    assert table[3].mean_reference == pytest.approx(0.9)


@pytest.mark.parametrize(("shares", "bins"), [([1.1], 5), ([-0.1], 5), ([0.5], 0)])
def test_calibration_refuses_what_is_no_share(shares: list[float], bins: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibration_table(shares, [0.5], bins=bins)
