"""No number of a profile is so large that what is made of it fills the machine."""

from __future__ import annotations

from typing import Any

import pytest

from sf_tui.errors import ProfileError
from sf_tui.profile import parse_profile
from support.ruled_profile import BASE

# Each with the largest number that is taken.
BOUNDED = {
    "train.steps": 10**8,
    "train.epochs": 10**6,
    "train.warmup_steps": 10**8,
    "train.batch_size": 10**6,
    "train.threads": 1024,
    "train.max_length": 10**9,
    "anchor.rows": 10**6,
    "anchor.cache_size": 10**6,
    "anchor.answer_tokens": 10**6,
    "anchor.top_k": 10**6,
    "replay_stage.steps": 10**8,
    "diagnose.examples": 10**9,
    "diagnose.steps": 10**8,
    "recover.examples": 10**9,
    "recover.steps": 10**8,
    "probe.every": 10**9,
    "probe.every_in_window": 10**9,
    "probe.examples": 10**9,
    "probe.batch_size": 10**6,
    "checkpoint.every": 10**9,
    "checkpoint.keep_last": 10**9,
    "checkpoint.keep_best": 10**9,
    "window.steps": 10**9,
    "rules.r.within_steps": 10**9,
    "tasks.old.held_out": 10**9,
    "actions.freeze.layers": 10**9,
    "actions.recover.steps": 10**8,
    "actions.recover.examples": 10**9,
}


def told(*overrides: str) -> str:
    with pytest.raises(ProfileError) as caught:
        parse_profile(BASE, overrides=overrides)
    return str(caught.value)


@pytest.mark.parametrize("key", BOUNDED)
@pytest.mark.parametrize("value", [10**12, 10**18, 10**30])
def test_absurd_number_is_refused_by_its_key(key: str, value: int) -> None:
    said = told(f"{key}={value}")
    assert f"--set {key}: " in said
    assert f"at most {BOUNDED[key]:,}" in said


@pytest.mark.parametrize("key", BOUNDED)
def test_largest_number_is_taken(key: str) -> None:
    more: dict[str, Any] = {"anchor.rows": "anchor.cache_size=1000000"}
    overrides = [f"{key}={BOUNDED[key]}"]
    parse_profile(BASE, overrides=[*overrides, *([more[key]] if key in more else [])])


def test_micro_batch_and_people_are_bounded_too() -> None:
    assert "at most 1,000,000" in told("train.micro_batch_size=1000000000")
    assert "at most 1,000,000" in told("biography.people=1000000000")
    assert "at most 1,000,000" in told("biography.new_people=1000000000000")


def test_stage_and_recovery_tables_are_bounded_too() -> None:
    assert "at most 1,024" in told("tasks.new.train.threads=100000000")
    assert "at most 1,000,000" in told("replay_stage.train.batch_size=100000000000")


@pytest.mark.parametrize("value", ["-1", "0"])
def test_too_small_a_number_is_told_as_before(value: str) -> None:
    assert "must be a whole number of at least 1" in told(f"train.batch_size={value}")
