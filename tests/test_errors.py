from __future__ import annotations

from sf_tui.errors import did_you_mean, nearest_name, nearest_names

KEYS = ["learning_rate", "batch_size", "steps", "warmup_steps"]


def test_typo_finds_its_name() -> None:
    assert nearest_name("lerning_rate", KEYS) == "learning_rate"
    assert nearest_name("Steps", KEYS) == "steps"
    assert nearest_name("color", KEYS) is None


def test_several_near_names_come_closest_first() -> None:
    assert nearest_names("biography-min", ["biography-tiny", "biography-mini", "x"]) == [
        "biography-mini",
        "biography-tiny",
    ]


def test_hint_lists_all_names_when_none_is_near() -> None:
    assert did_you_mean("stepz", KEYS) == "did you mean 'steps'?"
    assert did_you_mean("color", ["a", "b"], "keys") == "keys: a, b"
    assert did_you_mean("color", [], "tasks") == "there are no tasks"
