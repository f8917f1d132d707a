"""Every verdict has its meaning, its color and its advice, and every list reads them."""

from __future__ import annotations

from typing import get_args

import pytest

from sf_tui.tui.theme import DARK, LIGHT
from sf_tui.vocabulary.verdicts import CLEAR_VERDICTS, VERDICTS, VerdictName, is_recoverable


def test_the_names_are_those_that_types_know() -> None:
    assert tuple(VERDICTS) == get_args(VerdictName)
    assert all(name == verdict.name for name, verdict in VERDICTS.items())


@pytest.mark.parametrize("name", VERDICTS)
def test_a_verdict_is_painted_and_says_what_to_do(name: str) -> None:
    verdict = VERDICTS[name]

    assert all(verdict.color_role in paint.roles for paint in (DARK, LIGHT))
    for has_start in (True, False):
        for knows_accuracy in (True, False):
            advice = verdict.advice(
                has_start=has_start, knows_accuracy=knows_accuracy, recover="sf recover r --out DIR"
            )
            assert advice.endswith(".")
            assert "{" not in advice
            assert ("sf recover r" in advice) >= verdict.is_recoverable


def test_advice_names_only_what_is_available() -> None:
    def advice(name: str, *, has_start: bool = True, knows_accuracy: bool = True) -> str:
        return VERDICTS[name].advice(
            has_start=has_start, knows_accuracy=knows_accuracy, recover="sf recover {how}"
        )

    assert "without any old example" in advice("spurious")
    assert "a few old examples" in advice("partial", has_start=False)
    assert "from the start model" in advice("real")
    assert "sf recover" not in advice("real", has_start=False)
    assert "--start-model" in advice("inconclusive", knows_accuracy=False)
    assert "--time" in advice("inconclusive")
    for ended, more_time in (("time", True), ("rounds", False), ("teaches", False)):
        text = VERDICTS["inconclusive"].advice(
            has_start=True, knows_accuracy=True, recover="sf recover", rounds_ended=ended
        )
        assert ("--time" in text) == more_time
        assert "held-out examples" in text
    learned_nothing = VERDICTS["none"].advice(
        has_start=True, knows_accuracy=True, recover="", learned=False
    )
    assert "learning_rate" in learned_nothing
    # A path may hold braces.
    assert "sf recover {how}" in advice("spurious")


def test_what_can_be_recovered_and_what_the_benchmark_counts() -> None:
    assert [name for name in VERDICTS if is_recoverable(name)] == ["spurious", "partial"]
    assert not is_recoverable("")
    assert CLEAR_VERDICTS == ("none", "spurious", "real")
