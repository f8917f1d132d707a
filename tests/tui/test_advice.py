"""What is suggested, at which point of a run that loses its old task."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sf_tui.run.commands import request_command
from sf_tui.tui.actions import read_actions
from sf_tui.tui.advice import closing_command, suggested_actions
from sf_tui.tui.feed import RunFeed
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.events import RunFinished
from tui.written_run import PROFILE, WrittenRun

MakeRun = Callable[..., WrittenRun]


def scene_of(written: WrittenRun, **more: bool) -> ViewState:
    feed = RunFeed(written.run)
    return ViewState(written.run, live=feed.live, actions=read_actions(written.run), **more)


def advised(written: WrittenRun, **more: bool) -> list[str]:
    return [action.op for action in suggested_actions(scene_of(written, **more))]


@pytest.fixture
def losing(make_run: MakeRun) -> WrittenRun:
    """Return a run at step 40 of its window, 45 points down."""
    written = make_run()
    written.begin()
    written.begin_stage()
    written.steps(1, 40)
    return written


def lose(written: WrittenRun, step: int) -> None:
    written.old = 0.4
    written.probe(step)


def test_nothing_is_advised_below_the_alert(make_run: MakeRun) -> None:
    written = make_run()
    written.begin()
    written.begin_stage()
    written.steps(1, 5)
    assert advised(written) == []


def test_in_the_window_what_holds_the_next_steps_is_advised(losing: WrittenRun) -> None:
    assert advised(losing) == ["freeze", "anchor"]
    losing.freeze(40)
    losing.probe(40)
    assert advised(losing) == ["anchor"]
    losing.take_anchor(40)
    assert advised(losing) == ["recover"], "both hold already"


def test_an_anchored_run_is_not_told_to_anchor(losing: WrittenRun) -> None:
    losing.take_anchor(40)
    assert advised(losing) == ["freeze"]


def test_behind_the_window_repair_is_advised_and_a_test_of_it(losing: WrittenRun) -> None:
    losing.steps(41, 170)
    assert advised(losing) == ["recover", "diagnose"]


def test_a_verdict_decides(losing: WrittenRun) -> None:
    losing.diagnose(40)
    assert advised(losing) == ["recover", "anchor"]
    losing.diagnose(40, verdict="real")
    assert advised(losing) == ["rollback", "freeze"]
    losing.diagnose(40, verdict="inconclusive")
    assert advised(losing) == ["freeze", "anchor"]


def test_a_verdict_on_weights_that_were_changed_decides_nothing(losing: WrittenRun) -> None:
    losing.diagnose(40)
    losing.command("c-7", "interpolate", "done", 40)
    lose(losing, 40)
    assert advised(losing) == ["freeze", "anchor"]


def test_what_was_just_asked_for_is_not_advised_again(losing: WrittenRun) -> None:
    request_command(losing.run, "freeze")
    assert advised(losing) == ["anchor"]


def test_only_actions_with_a_key_are_advised(make_run: MakeRun) -> None:
    keyless = PROFILE.replace('key = "f"\n', "").replace('key = "a"\n', "")
    written = make_run(profile=keyless.replace('key = "r"\n', ""))
    written.begin()
    written.begin_stage()
    written.steps(1, 40)
    assert advised(written) == ["rollback"]


def test_who_may_not_act_and_who_looks_back_is_not_advised(losing: WrittenRun) -> None:
    assert advised(losing, read_only=True) == []
    view = scene_of(losing)
    view.cursor = 20
    assert suggested_actions(view) == []


def test_a_run_that_ended_beyond_the_alert_names_the_command_for_it(losing: WrittenRun) -> None:
    assert closing_command(scene_of(losing)) == ""
    losing.event(RunFinished(status="completed", exit_code=0, metrics={}, reason=""))
    assert advised(losing) == []
    assert closing_command(scene_of(losing)) == f"sf diagnose {losing.run.id}"
    losing.diagnose(40)
    assert closing_command(scene_of(losing)) == f"sf recover {losing.run.id} --out DIR"
    losing.diagnose(40, verdict="real")
    assert closing_command(scene_of(losing)) == ""
