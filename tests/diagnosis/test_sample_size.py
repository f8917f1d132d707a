"""The number of held-out examples that a verdict needs follows from its rules."""

from __future__ import annotations

import numpy as np
import pytest

from sf_tui.diagnosis.bootstrap import estimate_recovery
from sf_tui.diagnosis.rules import verdict_of
from sf_tui.diagnosis.sample_size import fewest_for_spurious


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_that_many_can_be_spurious_and_one_fewer_cannot(wrong: int) -> None:
    def verdict(examples: int) -> str:
        start, now = np.ones(examples), np.zeros(examples)
        recovered = np.ones(examples)
        recovered[:wrong] = 0
        return verdict_of(estimate_recovery(now, recovered, start))[0]

    fewest = fewest_for_spurious(wrong)
    assert verdict(fewest) == "spurious"
    assert verdict(fewest - 1) != "spurious"
