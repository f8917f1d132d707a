from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_tui.diagnosis.verdict import Finding, decide_verdict
from sf_tui.errors import UsageError
from support.scores import make_arm, right


def verdict_of(
    start: int, now: int, recovered: int, examples: int, resamples: int = 4000
) -> Finding:
    """Return the verdict for so many right, the same examples first each time."""
    arm = make_arm(right(recovered, examples))
    return decide_verdict(right(now, examples), [arm], right(start, examples), resamples=resamples)


@pytest.mark.parametrize(
    ("start", "now", "recovered", "verdict"),
    [
        # The measured cases of 25, 100 new people, contradicting biographies, and noise.
        (598, 234, 570, "spurious"),
        (598, 72, 306, "partial"),
        (598, 0, 36, "real"),
        (598, 597, 598, "none"),
        (598, 420, 590, "spurious"),
        (598, 300, 330, "real"),
    ],
)
def test_verdicts_of_a_usual_held_out_set_are_closed(
    start: int, now: int, recovered: int, verdict: str
) -> None:
    found = verdict_of(start, now, recovered, 600)
    assert (found.name, found.closed) == (verdict, True)
    assert found.arm == "neighbors"
    assert found.controlled


@pytest.mark.parametrize("recovered", [0, 1, 2, 3, 4, 5])
def test_five_examples_decide_nothing(recovered: int) -> None:
    assert verdict_of(5, 0, recovered, 5).name == "inconclusive"


def test_five_examples_without_a_drop_leave_none_open() -> None:
    found = verdict_of(5, 5, 5, 5)
    assert (found.name, found.closed) == ("none", False)
    assert any("43.4 points may still be lost" in line for line in found.evidence)


@given(examples=st.integers(3, 60), data=st.data())
def test_far_below_the_start_is_never_spurious(examples: int, data: st.DataObject) -> None:
    bits = st.lists(st.booleans(), min_size=examples, max_size=examples)
    start = np.array(data.draw(bits))
    most = int(0.6 * start.sum())
    recovered = right(data.draw(st.integers(0, most)), examples)
    now = np.array(data.draw(bits)) & start
    arm = make_arm(data.draw(st.permutations(list(recovered))))
    found = decide_verdict(now, [arm], start, resamples=200)
    assert found.name != "spurious"


@given(examples=st.integers(3, 60), data=st.data())
def test_most_of_the_loss_back_is_never_real(examples: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(1, examples))
    back = data.draw(st.integers((lost + 1) // 2, lost))
    found = verdict_of(examples, examples - lost, examples - lost + back, examples)
    assert found.name != "real"


@given(start=st.integers(30, 120), now=st.integers(0, 60))
def test_more_recovered_never_turns_spurious_into_real(start: int, now: int) -> None:
    order = ["real", "partial", "spurious"]
    said = [verdict_of(start, now, recovered, 120, 400).name for recovered in range(0, 121, 6)]
    ranks = [order.index(name) for name in said if name in order]
    assert ranks == sorted(ranks)


def test_small_drop_of_which_nothing_came_back_is_told_to_be_open() -> None:
    found = verdict_of(4000, 3720, 3720, 4000)
    assert (found.name, found.closed) == ("spurious", False)
    assert "that small part is gone" in found.evidence[-1]


def test_the_arm_that_speaks_gives_the_figures() -> None:
    weak = make_arm(right(41, 100), "examples", selection_accuracy=0.41)
    strong = make_arm(right(98, 100), "neighbors", selection_accuracy=0.97)
    found = decide_verdict(right(39, 100), [weak, strong], right(100, 100))
    assert (found.name, found.arm) == ("spurious", "neighbors")
    assert found.estimates.recovered is not None
    assert found.estimates.recovered.value == 0.98
    assert any("'neighbors' brings it to 0.980" in line for line in found.evidence)


def test_an_arm_that_teaches_does_not_speak_and_the_evidence_says_why() -> None:
    teaching = make_arm(right(98, 100), "unrelated", control=0.5)
    found = decide_verdict(right(39, 100), [teaching], right(100, 100))
    assert (found.name, found.closed, found.arm) == ("inconclusive", False, None)
    assert found.estimates.recovered is None
    assert found.estimates.drop is not None
    assert found.estimates.drop.value == pytest.approx(0.61)
    assert any("'unrelated' doesn't count: it reaches 0.500" in line for line in found.evidence)


def test_without_any_arm_only_none_can_be_said() -> None:
    lost = decide_verdict(right(39, 100), start=right(100, 100))
    kept = decide_verdict(right(100, 100), start=right(100, 100))
    assert (lost.name, kept.name, kept.closed) == ("inconclusive", "none", True)
    assert "No recovery was run." in lost.evidence


def test_a_missing_control_is_told() -> None:
    arm = make_arm(right(98, 100), control=None, control_examples=0)
    found = decide_verdict(right(39, 100), [arm], right(100, 100))
    assert (found.name, found.controlled) == ("spurious", False)
    assert any(line.startswith("No control was measured") for line in found.evidence)


class TestUnknownStart:
    @pytest.mark.parametrize(
        ("now", "recovered", "said"),
        [
            (20, 70, "In all 50.0 points (38.0 to 60.0) came back"),
            (20, 20, "either nothing was lost, or it is gone"),
            (20, 98, "real loss of more than a tenth of the start is ruled out"),
            # The recovery spoilt what was there: it is known all the same.
            (98, 60, "real loss of more than a tenth of the start is ruled out"),
        ],
    )
    def test_is_inconclusive_and_says_what_is_known(
        self, now: int, recovered: int, said: str
    ) -> None:
        found = decide_verdict(right(now, 100), [make_arm(right(recovered, 100))])
        assert (found.name, found.closed) == ("inconclusive", False)
        assert "its accuracy at the start is unknown" in found.evidence[0]
        assert said in found.evidence[-1]

    def test_without_a_recovery_nothing_is_said(self) -> None:
        found = decide_verdict(right(20, 100))
        assert found.name == "inconclusive"
        assert found.evidence[-1].startswith("Without the accuracy at the start no loss")


def test_a_start_that_knew_nothing_has_nothing_to_lose() -> None:
    found = verdict_of(0, 0, 30, 100)
    assert found.name == "none"
    assert found.evidence[-1] == "The start model didn't know it either: there was nothing to lose."


def test_start_as_one_number_decides_too_and_its_doubt_counts() -> None:
    now, arm = right(60, 600), make_arm(right(520, 600))
    sure = decide_verdict(now, [arm], 0.9)
    unsure = decide_verdict(now, [arm], 0.3, start_examples=20)
    assert (sure.name, sure.closed) == ("spurious", True)
    assert unsure.estimates.drop is not None
    assert unsure.estimates.drop.low < 0.05
    with pytest.raises(UsageError):
        decide_verdict(now, [arm], 90)


def test_an_arm_scored_on_other_examples_is_refused() -> None:
    with pytest.raises(ValueError, match="not the same examples"):
        decide_verdict(right(3, 6), [make_arm(right(3, 5))], right(6, 6))


def test_same_seed_same_verdict() -> None:
    again = [verdict_of(598, 300, 420, 600) for _ in range(2)]
    assert again[0] == again[1]
