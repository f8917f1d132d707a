from __future__ import annotations

from typing import Any

import pytest

from sf_tui.tui.actions import Action, RunActions
from sf_tui.tui.dialogs.confirm import consequences


def action(op: str, key: str = "", **arguments: Any) -> Action:
    return Action(op, op, key, op, True, arguments)


WITH_ROLLBACK = RunActions([action("rollback", "b")])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"examples": 10, "steps": 20}, ["10 old examples", "20 steps at most"]),
        ({"examples": 1}, ["1 old example, "]),
        ({"examples": 0}, ["no old examples"]),
        ({}, ["old examples of [recover]", "the steps of [recover]"]),
    ],
)
def test_recover_says_what_it_tunes_on_and_how_long(
    arguments: dict[str, Any], words: list[str]
) -> None:
    said = " ".join(consequences(action("recover", **arguments), WITH_ROLLBACK))
    for word in [*words, "the run's own weights", "neighbor prompts", "rollback (b)"]:
        assert word in said


def test_what_the_action_leaves_open_the_profile_says() -> None:
    actions = RunActions(recover={"examples": 0, "steps": 150})
    said = " ".join(consequences(action("recover", steps=20), actions))
    assert "no old examples, 20 steps at most" in said


@pytest.mark.parametrize(
    ("op", "arguments", "word"),
    [
        ("shift-edit", {"alpha": 0.5}, "alpha 0.5"),
        ("spectral-edit", {}, "above noise"),
        ("interpolate", {"keep": 0.6}, "keeps 0.6 of its change"),
        ("interpolate", {}, "keeps 0.7 of its change"),
    ],
)
def test_an_edit_says_what_it_does_and_how_to_undo_it(
    op: str, arguments: dict[str, Any], word: str
) -> None:
    said = " ".join(consequences(action(op, **arguments), WITH_ROLLBACK))
    assert word in said
    assert "no data" in said
    assert "To undo it, rollback (b)" in said


def test_a_rollback_without_a_key_is_named_without_one() -> None:
    said = " ".join(consequences(action("recover"), RunActions([action("rollback")])))
    assert "To undo it, rollback goes back" in said


def test_actions_that_leave_the_weights_alone_have_none() -> None:
    assert consequences(action("checkpoint"), WITH_ROLLBACK) == []
