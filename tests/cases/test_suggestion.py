"""Suggested settings follow from the model's width and from row and token counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_tui.cases.data_facts import DataFacts
from sf_tui.cases.estimates import RunEstimate, StageEstimate
from sf_tui.cases.model_size import ModelSize
from sf_tui.cases.profile_warnings import warn_of_plan
from sf_tui.cases.suggestion import learning_rate_for, suggest, suggest_held_out
from sf_tui.profile import parse_profile, short_profile


def size_of(hidden: int, layers: int = 4) -> ModelSize:
    parameters = 12 * layers * hidden * hidden
    return ModelSize("llama", parameters, hidden, layers, 1000, tied=False, max_length=None)


def facts_of(name: str, rows: int, held_out: int | None = None) -> DataFacts:
    held = round(0.1 * rows) if held_out is None else held_out
    return DataFacts(
        name=name,
        data=f"{name}.jsonl",
        metric="exact_match",
        train=rows - held,
        held_out=held,
        mean_tokens=20.0,
        held_out_tokens=20.0,
        longest=40,
        answer_tokens=4.0,
        too_long=0,
        sampled=False,
        guessed=False,
    )


@pytest.mark.parametrize(
    ("hidden", "rate"), [(16, 3e-3), (128, 6.3e-4), (576, 1.4e-4), (4096, 2e-5), (16384, 4.9e-6)]
)
def test_rate_falls_as_the_width_grows(hidden: int, rate: float) -> None:
    assert learning_rate_for(hidden) == rate


@pytest.mark.parametrize(
    ("rows", "batch", "steps"),
    [(12, 4, 120), (43, 8, 150), (101, 16, 150), (400, 16, 300), (10_000, 16, 1870)],
)
def test_steps_follow_from_the_rows(rows: int, batch: int, steps: int) -> None:
    found = suggest(size_of(128), facts_of("old", 300), facts_of("new", rows, 0))
    assert (found.train["batch_size"], found.train["steps"]) == (batch, steps)
    assert found.train["warmup_steps"] <= steps // 5


def test_a_fixed_rate_is_kept_and_not_explained_by_the_rule() -> None:
    found = suggest(size_of(128), None, None, given={"learning_rate": 4e-4})
    assert found.train["learning_rate"] == 4e-4
    assert "train.learning_rate" not in found.reasons


def test_a_fixed_batch_size_counts_in_the_epochs() -> None:
    given = {"batch_size": 48, "steps": 300}
    found = suggest(size_of(128), facts_of("old", 300), facts_of("new", 150, 0), given=given)
    assert (found.train["batch_size"], found.train["steps"]) == (48, 300)
    few = suggest(
        size_of(128), facts_of("old", 300), facts_of("new", 150, 0), given={"batch_size": 48}
    )
    assert few.reasons["train.steps"] == "38.4 epochs of 150 rows"


def test_a_model_that_was_not_looked_at_gets_the_default_and_says_so() -> None:
    found = suggest(None, facts_of("old", 300), facts_of("new", 100))
    assert found.train["learning_rate"] == 1e-5
    assert "0.08 / its hidden size" in found.reasons["train.learning_rate"]


def test_the_guard_follows_the_measured_start() -> None:
    old, new = facts_of("old", 300), facts_of("new", 100)
    assert suggest(size_of(128), old, new, start=0.64).guard["old_accuracy"] == 0.57
    assert "not measured" in suggest(size_of(128), old, new).reasons["guard.old_accuracy"]


@given(hidden=st.integers(32, 12288), old=st.integers(120, 10**6), new=st.integers(100, 10**6))
def test_what_is_suggested_is_not_warned_of(hidden: int, old: int, new: int) -> None:
    size = size_of(hidden)
    split = suggest_held_out(facts_of("old", old), facts_of("new", new))
    tasks = {
        "old": facts_of("old", old, split["old"]),
        "new": facts_of("new", new, split["new"]),
    }
    found = suggest(size, tasks["old"], tasks["new"])
    text = short_profile(
        name="m",
        model="org/m",
        old="a.csv",
        new="b.csv",
        held_out=split,
        train=found.train,
        probe=found.probe,
        guard=found.guard,
        reasons=found.reasons,
    )
    profile = parse_profile(text)
    (spec,) = profile.stages()
    steps = spec.train.total_steps(tasks["new"].train)
    epochs = steps * spec.train.batch_size / tasks["new"].train
    estimate = RunEstimate(
        (StageEstimate("new", "new", steps, epochs, 1.0, 1.0),), 1.0, None, None, None
    )
    assert warn_of_plan(profile, tasks, estimate, size) == []
    assert epochs >= 0.9
