from __future__ import annotations

import itertools

import pytest

from sf_tui.bench.harness import PassOn, Reading, Side, alternate, exchanged_ratio, median_ratio


def _side(name: str, legs: int, done: list[str]) -> Side:
    def play(pass_on: PassOn) -> None:
        for _ in range(legs):
            done.append(name)
            pass_on()

    return play


def test_neither_side_always_comes_first() -> None:
    done: list[str] = []
    alternate(_side("a", 6, done), _side("b", 6, done))
    assert "".join(done) == "abbaabbaabba"


def test_every_leg_is_timed_once_by_the_side_that_did_it() -> None:
    ticks = itertools.count()

    def read() -> Reading:
        now = next(ticks)
        return Reading(now, 2 * now)

    first, second = alternate(_side("a", 3, []), _side("b", 4, []), read)
    assert first == [Reading(1, 2)] * 3
    assert second == [Reading(1, 2)] * 4


def test_a_side_with_more_legs_goes_on_alone() -> None:
    done: list[str] = []
    alternate(_side("a", 1, done), _side("b", 5, done))
    assert sorted(done) == ["a", *"bbbbb"]


def test_the_failure_of_one_side_stops_the_other_and_is_raised() -> None:
    done: list[str] = []

    def fail(pass_on: PassOn) -> None:
        pass_on()
        raise ValueError("broken leg")

    with pytest.raises(ValueError, match="broken leg"):
        alternate(_side("a", 1000, done), fail)
    assert len(done) < 10


def test_what_belongs_to_a_side_cancels_out() -> None:
    works, side = 1.5, 1.04
    ratio, found = exchanged_ratio(works * side, works / side)
    assert ratio == pytest.approx(works)
    assert found == pytest.approx(side - 1)


def test_one_disturbed_leg_does_not_move_the_ratio() -> None:
    assert median_ratio([2, 2, 50], [1, 1, 1]) == 2
