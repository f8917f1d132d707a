from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sf_tui.run.directory import RunDirectory
from sf_tui.tui.actions import Action, RunActions
from sf_tui.tui.dialogs.consequences import consequences, what_yes_does
from sf_tui.tui.feed import RunFeed
from sf_tui.tui.view_state import ViewState
from tui.written_run import LAYERS, WrittenRun

MakeRun = Callable[..., WrittenRun]


def action(op: str, key: str = "", **arguments: Any) -> Action:
    return Action(op, op, key, op, True, arguments)


WITH_ROLLBACK = RunActions([action("rollback", "b")])
HOLDING = RunActions(
    [action("unanchor", "o"), action("anchor", "a"), action("unfreeze", "u")],
    recover={"then_anchor": True, "keep_frozen": False},
)


def of(action: Action, actions: RunActions) -> list[str]:
    """Return the consequences of an action in a run that has not begun."""
    return consequences(action, ViewState(RunDirectory(Path("run")), actions=actions))


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
    said = " ".join(of(action("recover", **arguments), WITH_ROLLBACK))
    for word in [*words, "the run's own weights", "neighbor prompts", "rollback (b)"]:
        assert word in said


def test_what_the_action_leaves_open_the_profile_says() -> None:
    actions = RunActions(recover={"examples": 0, "steps": 150})
    said = " ".join(of(action("recover", steps=20), actions))
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
    said = " ".join(of(action(op, **arguments), WITH_ROLLBACK))
    assert word in said
    assert "no data" in said
    assert "To undo it, rollback (b)" in said


def test_a_rollback_without_a_key_is_named_without_one() -> None:
    said = " ".join(of(action("recover"), RunActions([action("rollback")])))
    assert "To undo it, rollback goes back" in said


def test_actions_that_leave_the_weights_alone_have_none() -> None:
    assert of(action("checkpoint"), WITH_ROLLBACK) == []


@pytest.fixture
def tuned(make_run: MakeRun) -> WrittenRun:
    written = make_run()
    written.begin()
    written.begin_stage()
    written.steps(1, 40)
    return written


def view_of(written: WrittenRun, actions: RunActions = HOLDING) -> ViewState:
    return ViewState(written.run, newest=RunFeed(written.run).live, actions=actions)


def test_a_repair_says_that_it_anchors_and_how_to_release_it(tuned: WrittenRun) -> None:
    view = view_of(tuned)
    said = " ".join(consequences(action("recover"), view))
    assert "Then an anchor of strength 1 holds the stage" in said
    assert "unanchor (o) releases it" in said
    assert what_yes_does(action("recover"), view) == "recover, then hold with an anchor"


def test_a_repair_of_an_anchored_stage_says_that_it_stays_so(tuned: WrittenRun) -> None:
    tuned.take_anchor(40)
    view = view_of(tuned)
    assert "held by the anchor as before" in " ".join(consequences(action("recover"), view))
    assert what_yes_does(action("recover"), view) == ""


def test_a_repair_that_does_not_anchor_says_what_that_risks(tuned: WrittenRun) -> None:
    view = view_of(tuned)
    said = " ".join(consequences(action("recover", then_anchor=False), view))
    assert "without an anchor and may lose the old task again; anchor (a) holds it" in said
    assert what_yes_does(action("recover", then_anchor=False), view) == ""


def test_a_repair_under_a_freeze_says_what_becomes_of_the_layers(tuned: WrittenRun) -> None:
    tuned.freeze(40)
    tuned.probe(40)
    frees = " ".join(consequences(action("recover"), view_of(tuned)))
    assert "3 layers that moved before they were frozen are repaired, too, and frozen" in frees
    keeps = " ".join(consequences(action("recover", keep_frozen=True), view_of(tuned)))
    assert "3 layers are frozen and stay as they are; unfreeze (u) first brings more back" in keeps


def test_layers_that_never_moved_are_not_named(make_run: MakeRun) -> None:
    written = make_run()
    written.begin()
    written.frozen = LAYERS[:3]
    written.begin_stage()
    written.steps(1, 40)
    assert "frozen" not in " ".join(consequences(action("recover"), view_of(written)))
