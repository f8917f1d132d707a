from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_tui.diagnosis.event import compare_costs, decompose, diagnosis_event
from sf_tui.diagnosis.rules import ArmResult
from sf_tui.diagnosis.verdict import Finding, decide_verdict
from sf_tui.vocabulary.declared import ArmRecord, as_object
from sf_tui.vocabulary.events import own_fields
from support.scores import make_arm, right

COST = compare_costs(seconds=30.1234567, tokens=90_000, gpu_hour=2.5, recipe_tokens=4_000_000)


def fields(
    verdict: Finding, *arms: ArmResult, skipped: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return the event of a diagnosis at the end of a stage."""
    return own_fields(
        diagnosis_event(
            verdict, arms, COST, task="old", stage="new", step=300, examples=10, skipped=skipped
        )
    )


def test_every_field_of_a_full_diagnosis() -> None:
    strong = make_arm(right(285, 300), selection_accuracy=0.94, learning_rate=2.5e-7)
    weak = make_arm(right(130, 300), "examples", steps=5, selection_accuracy=0.44)
    verdict = decide_verdict(right(117, 300), [weak, strong], right(299, 300))
    event = fields(verdict, weak, strong, skipped={"unrelated": "no other task is named"})

    assert event["verdict"] == "spurious"
    assert event["closed"] is True
    assert event["controlled"] is True
    assert event["evidence"] == list(verdict.evidence)
    assert (event["task"], event["stage"], event["step"]) == ("old", "new", 300)
    assert (event["start"], event["now"], event["recovered"]) == (0.996667, 0.39, 0.95)
    assert event["alignment"] == 0.410526
    assert event["alignment_loss"] == 0.56
    assert event["knowledge_loss"] == 0.046667
    assert event["spurious_share"] == 0.923077
    assert event["real_share"] == 0.076923
    share = verdict.estimates.spurious_share
    assert share is not None
    assert event["interval"] == pytest.approx(list(share.interval), abs=1e-6)
    assert event["recovered_interval"][0] < 0.95 < event["recovered_interval"][1]
    assert event["now_interval"][0] < 0.39 < event["now_interval"][1]
    assert event["drop_interval"][0] < 0.606667 < event["drop_interval"][1]
    assert (event["examples"], event["held_out"]) == (10, 300)
    assert (event["arm"], event["steps"]) == ("neighbors", 100)
    assert (event["seconds"], event["tokens"]) == (30.123457, 90_000)
    assert event["cost"] == as_object(COST.rounded())
    assert event["arms"] == {
        "examples": {
            "recovered": 0.433333,
            "control": 0.02,
            "floor": 0.03,
            "allowed": True,
            "steps": 5,
            "steps_taken": 5,
            "seconds": 12.5,
            "tokens": 40_000,
            "learning_rate": 0.0002,
        },
        "neighbors": {
            "recovered": 0.95,
            "control": 0.02,
            "floor": 0.03,
            "allowed": True,
            "steps": 100,
            "steps_taken": 100,
            "seconds": 12.5,
            "tokens": 40_000,
            # Six decimals would make it 0.
            "learning_rate": 2.5e-7,
        },
        "unrelated": as_object(ArmRecord(skipped="no other task is named")),
    }


def test_what_is_not_known_is_null() -> None:
    arm = make_arm(right(90, 100), control=0.9)
    event = fields(decide_verdict(right(20, 100), [arm]), arm)
    unknown = [
        "start",
        "recovered",
        "recovered_interval",
        "drop_interval",
        "spurious_share",
        "real_share",
        "interval",
        "alignment",
        "alignment_loss",
        "knowledge_loss",
        "arm",
        "steps",
    ]
    assert [event[name] for name in unknown] == [None] * len(unknown)
    assert event["now"] == 0.2
    assert event["arms"]["neighbors"]["allowed"] is False
    assert event["arms"]["neighbors"]["recovered"] == 0.9


def test_an_arm_without_a_say_is_listed() -> None:
    speaking, reference = make_arm(right(40, 100)), make_arm(right(90, 100), "reference")
    verdict = decide_verdict(right(20, 100), [speaking], right(100, 100))
    event = fields(verdict, speaking, reference)
    assert event["recovered"] == 0.4
    assert event["arms"]["reference"]["recovered"] == 0.9


def test_arms_that_do_not_fit_the_verdict_are_refused() -> None:
    arm = make_arm(right(90, 100))
    verdict = decide_verdict(right(20, 100), [arm], right(100, 100))
    with pytest.raises(ValueError, match="not among"):
        fields(verdict, make_arm(right(90, 100), "other"))
    with pytest.raises(ValueError, match="same name"):
        fields(verdict, arm, arm)
    with pytest.raises(ValueError, match="same name"):
        fields(verdict, arm, skipped={"neighbors": "no start weights"})


share = st.floats(0, 1, allow_subnormal=False)


@given(
    rows=st.lists(st.tuples(share, share, share), min_size=1, max_size=8),
    start=st.sampled_from(["scores", "number", "unknown"]),
    control=st.none() | share,
)
def test_any_diagnosis_is_plain_json(
    rows: list[tuple[float, float, float]], start: str, control: float | None
) -> None:
    scores, now, recovered = (list(column) for column in zip(*rows, strict=True))
    arm = make_arm(recovered, control=control)
    starts: dict[str, Any] = {"scores": scores, "number": scores[0], "unknown": None}
    verdict = decide_verdict(now, [arm], starts[start], resamples=50)
    event = fields(verdict, arm)
    assert json.loads(json.dumps(event, allow_nan=False)) == event


def test_nothing_heavy_comes_with_the_package() -> None:
    code = (
        "import pkgutil, sys, importlib, sf_tui.diagnosis as d\n"
        "for m in pkgutil.iter_modules(d.__path__, d.__name__ + '.'):\n"
        "    importlib.import_module(m.name)\n"
        "ours = {m for m in sys.modules if m.startswith('sf_tui.')}\n"
        "assert 'sf_tui.diagnosis.event' in ours\n"
        "print(sorted(m for m in ours if not m.startswith(('sf_tui.diagnosis', 'sf_tui.voc'))))\n"
        "print(sorted({'torch', 'pydantic', 'textual', 'rich', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "['sf_tui.errors', 'sf_tui.masking', 'sf_tui.printable']",
        "[]",
    ], done.stderr


def test_parts_by_hand() -> None:
    parts = decompose(now=0.36, recovered=0.9, start=0.98)
    assert parts.knowledge == 0.9
    assert parts.alignment == pytest.approx(0.4)
    assert parts.alignment_loss == pytest.approx(0.54)
    assert parts.knowledge_loss == pytest.approx(0.08)


def test_the_two_losses_make_up_the_drop() -> None:
    parts = decompose(now=0.2, recovered=0.7, start=0.95)
    assert parts.knowledge_loss is not None
    assert parts.alignment_loss + parts.knowledge_loss == pytest.approx(0.95 - 0.2)


def test_no_loss_is_negative() -> None:
    beyond = decompose(now=0.5, recovered=0.99, start=0.9)
    below = decompose(now=0.5, recovered=0.4, start=0.9)
    assert beyond.knowledge_loss == 0
    assert below.alignment_loss == 0
    assert below.alignment == 1
    assert below.knowledge_loss == pytest.approx(0.5)


def test_nothing_known_has_no_alignment() -> None:
    assert decompose(now=0.0, recovered=0.0, start=0.9).alignment is None


def test_an_unknown_start_leaves_the_loss_of_knowledge_open() -> None:
    parts = decompose(now=0.2, recovered=0.8)
    assert parts.knowledge_loss is None
    assert parts.alignment == pytest.approx(0.25)


def test_the_others_are_reckoned_at_the_pace_and_price_of_the_test() -> None:
    costs = compare_costs(
        seconds=36, tokens=72_000, gpu_hour=2.5, old_task_tokens=720_000, recipe_tokens=7_200_000
    )
    assert as_object(costs.rounded()) == {
        "tokens": 72_000,
        "seconds": 36.0,
        "money": 0.025,
        "tokens_per_second": 2000.0,
        "old_task": {"tokens": 720_000, "seconds": 360.0, "money": 0.25, "share": 0.1},
        "recipe": {"tokens": 7_200_000, "seconds": 3600.0, "money": 2.5, "share": 0.01},
    }


def test_a_pace_of_training_alone_takes_precedence() -> None:
    costs = compare_costs(
        seconds=36, tokens=72_000, tokens_per_second=4000, old_task_tokens=720_000
    )
    assert costs.old_task is not None
    assert costs.old_task.seconds == 180
    assert costs.test.seconds == 36


def test_without_a_price_there_is_no_money() -> None:
    costs = compare_costs(seconds=36, tokens=72_000, old_task_tokens=720_000)
    assert costs.test.money is None
    assert costs.old_task is not None
    assert costs.old_task.money is None
    assert costs.recipe is None
    assert as_object(costs.rounded())["recipe"] is None


@pytest.mark.parametrize(("seconds", "tokens"), [(0, 0), (5, 0), (0, 100)])
def test_a_test_without_a_pace_tells_tokens_only(seconds: float, tokens: int) -> None:
    costs = compare_costs(seconds=seconds, tokens=tokens, gpu_hour=2.5, recipe_tokens=1000)
    assert costs.tokens_per_second is None
    assert costs.recipe is not None
    assert (costs.recipe.tokens, costs.recipe.seconds, costs.recipe.money) == (1000, None, None)


def test_nothing_to_tune_anew_has_no_share() -> None:
    event = as_object(compare_costs(seconds=1, tokens=10, old_task_tokens=0).rounded())
    assert event["old_task"] == {"tokens": 0, "seconds": 0.0, "money": None, "share": None}


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_impossible_figures_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        compare_costs(seconds=seconds, tokens=1)
