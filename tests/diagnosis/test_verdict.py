from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_tui.diagnosis.new_task import new_task_of
from sf_tui.diagnosis.verdict import Finding, decide_verdict, is_settled
from sf_tui.errors import UsageError
from sf_tui.recovery.rounds import MOST_ROUNDS
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


@pytest.mark.parametrize(
    ("other", "control", "verdict"),
    [
        # 0.22 of the loss of 46 came back, up to 0.34 of it; 0.02; and the same, but taught.
        (43, 0.0, "inconclusive"),
        (34, 0.0, "real"),
        (43, 0.9, "real"),
    ],
)
@pytest.mark.parametrize("as_reference", [False, True])
def test_real_needs_every_recovery_that_may_be_asked(
    other: int, control: float, verdict: str, as_reference: bool
) -> None:
    now, start = right(33, 80), right(79, 80)
    decides = make_arm(right(33, 80), "neighbors", selection_accuracy=0.5)
    asked = make_arm(right(other, 80), "edit", control=control, selection_accuracy=0.4)
    arms, reference = ([decides], asked) if as_reference else ([decides, asked], None)
    found = decide_verdict(now, arms, start, reference=reference)
    assert (found.name, found.arm) == (verdict, "neighbors")
    assert found.closed is (verdict == "real")
    said = " ".join(found.evidence)
    if verdict == "real":
        assert "with every recovery that was tried: the knowledge is gone" in said
    else:
        assert "knowledge is gone" not in said
        assert "But 'edit' brings back 0.217 (" in said
        assert "Between 0 and 3" in found.evidence[0]
    assert as_reference or is_settled(now, arms, start) is (verdict == "real")


def test_training_that_only_did_harm_does_not_show_that_knowledge_is_gone() -> None:
    now, start = right(200, 600), right(598, 600)
    harmful = make_arm(right(200, 600), "neighbors", steps=0, steps_taken=166)
    edit = make_arm(right(200, 600), "edit", steps=0, tokens=0, selection_accuracy=0.1)
    found = decide_verdict(now, [harmful, edit], start)
    assert (found.name, found.closed) == ("inconclusive", False)
    assert "No step of any training was better than the weights as they are" in found.evidence[-1]
    helpful = make_arm(right(200, 600), "examples", steps=3, selection_accuracy=0.1)
    assert decide_verdict(now, [harmful, edit, helpful], start).name == "real"


def test_an_arm_on_fewer_examples_is_compared_on_those() -> None:
    now, start = right(33, 160), right(158, 160)
    decides = make_arm(right(33, 160), "neighbors", selection_accuracy=0.5)
    few = make_arm(right(43, 80), "edit", selection_accuracy=0.4)
    assert decide_verdict(now, [decides, few], start).name == "inconclusive"


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


@settings(max_examples=20)
@given(start=st.integers(30, 120), now=st.integers(0, 60))
def test_more_recovered_never_turns_spurious_into_real(start: int, now: int) -> None:
    order = ["real", "partial", "spurious"]
    said = [verdict_of(start, now, recovered, 120, 400).name for recovered in range(0, 121, 6)]
    ranks = [order.index(name) for name in said if name in order]
    assert ranks == sorted(ranks)


def test_small_drop_of_which_nothing_came_back_is_real() -> None:
    found = verdict_of(4000, 3720, 3720, 4000)
    assert (found.name, found.closed) == ("real", True)


def test_a_bound_that_few_examples_bear_is_the_first_sentence() -> None:
    found = verdict_of(38, 0, 27, 38)
    assert found.name == "inconclusive"
    assert found.evidence[0].startswith("At least 55 % of the loss is spurious;")
    assert "wider than 0.25 does not bear 'partial'" in found.evidence[-1]
    near = verdict_of(480, 175, 443, 480)
    assert near.name == "inconclusive"
    assert near.evidence[0].startswith("At least 83 % of the loss is spurious;")
    assert near.evidence[-1].endswith("(an accuracy of at least 0.9 of the start) and 'partial'.")


def test_nothing_is_called_at_least_0_percent() -> None:
    found = verdict_of(38, 0, 3, 38)
    assert found.name == "real"
    open_ = verdict_of(20, 10, 10, 20)
    assert open_.name == "inconclusive"
    assert open_.evidence[0].startswith("Between 0 and ")


def test_a_part_is_told_with_both_bounds() -> None:
    found = verdict_of(598, 72, 306, 600)
    assert found.name == "partial"
    first = found.evidence[0]
    assert first.startswith("At least 40 % of the loss is spurious, and at least 51 % of it did")


def looks_until_settled(rng: np.random.Generator, true: float, examples: int) -> str:
    """Return the verdict of a test with further rounds whose recovery is never above `true`."""
    start, now = right(examples, examples), right(0, examples)
    scores = rng.random(examples) < true
    for _ in range(MOST_ROUNDS):
        if is_settled(now, [make_arm(scores)], start, resamples=400):
            break
        # A round changes some answers, for better and worse.
        scores = np.where(rng.random(examples) < 0.3, rng.random(examples) < true, scores)
    return decide_verdict(now, [make_arm(scores)], start, resamples=400).name


@pytest.mark.parametrize(("true", "forbidden"), [(0.899, "spurious"), (0.25, "real")])
def test_looking_again_errs_no_more_often_than_one_look_may(true: float, forbidden: str) -> None:
    rng = np.random.default_rng(5)
    trials = 100
    wrong = sum(looks_until_settled(rng, true, 200) == forbidden for _ in range(trials))
    # 2.5 % on one side are 2.5; 6 is the 98.6 % quantile of that.
    assert wrong <= 6


def test_an_interim_look_is_stricter_than_the_last_one() -> None:
    start, now = right(480, 480), right(175, 480)
    arm = make_arm(right(450, 480))
    assert decide_verdict(now, [arm], start).name == "spurious"
    assert not is_settled(now, [arm], start)
    assert is_settled(now, [make_arm(right(462, 480))], start)
    assert is_settled(now, [make_arm(right(190, 480))], start)
    # Nothing can come of further rounds.
    assert is_settled(now, [arm], None)
    assert is_settled(now, [], start)
    assert is_settled(right(478, 480), [arm], start)


class TestNewTaskThatWasNotLearned:
    def test_makes_none_a_test_of_nothing(self) -> None:
        new = new_task_of("new", right(0, 11), right(0, 11), 0.2)
        found = decide_verdict(right(99, 100), [], right(100, 100), new=new)
        assert (found.name, new.learned) == ("none", False)
        assert found.evidence[0].startswith("The new task 'new' was not learned (0.000 (0.000 to ")
        assert "nothing was tested" in found.evidence[0]

    def test_is_told_behind_a_loss(self) -> None:
        new = new_task_of("new", right(2, 11), None, 0.2)
        found = decide_verdict(right(20, 100), [make_arm(right(99, 100))], right(100, 100), new=new)
        assert (found.name, new.learned) == ("spurious", False)
        assert "guessing 0.200" in found.evidence[1]
        assert "nothing was tested" not in found.evidence[1]

    def test_of_one_that_was_learned_nothing_is_said(self) -> None:
        new = new_task_of("new", right(11, 11), right(0, 11), 0.2)
        found = decide_verdict(right(99, 100), [], right(100, 100), new=new)
        assert new.learned
        assert not any("new task" in sentence for sentence in found.evidence)


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
