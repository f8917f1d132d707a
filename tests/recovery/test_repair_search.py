"""A repair begins where the loss that it lowers is lowest on the way back to the start."""

from __future__ import annotations

import math

import pytest

from sf_tui.recovery.repair_search import find_keep


@pytest.mark.parametrize("lowest", [0.05, 0.2, 0.27, 0.5, 0.63, 0.85, 1.0])
def test_the_lowest_loss_is_found_within_a_twentieth(lowest: float) -> None:
    asked: list[float] = []

    def loss(keep: float) -> float:
        asked.append(keep)
        return abs(keep - lowest) ** 1.5

    assert find_keep(loss) == pytest.approx(lowest, abs=0.0501)
    assert len(asked) == len(set(asked)) <= 9
    assert all(0 < keep <= 1 for keep in asked)


def test_of_equal_losses_as_much_as_possible_is_kept() -> None:
    assert find_keep(lambda _: 1.0) == 1.0


def test_weights_without_a_loss_are_scaled_back() -> None:
    assert find_keep(lambda keep: math.nan if keep > 0.5 else keep) < 0.5
