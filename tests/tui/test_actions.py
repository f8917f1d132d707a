from __future__ import annotations

from collections.abc import Callable

import pytest

from sf_tui.errors import RunError
from sf_tui.run.commands import CommandTail, request_command
from sf_tui.run.liveness import WorkerState
from sf_tui.tui.actions import ActionSender, read_actions
from sf_tui.tui.feed import RunFeed
from sf_tui.tui.rollback import rollback_targets
from tui.written_run import FakeClock, WrittenRun


def desk_of(written: WrittenRun, *, read_only: bool = False) -> tuple[ActionSender, FakeClock]:
    clock = FakeClock()
    actions = read_actions(written.run)
    return ActionSender(written.run, actions, read_only=read_only, steady_clock=clock), clock


def test_actions_are_those_of_the_runs_own_profile(running: WrittenRun) -> None:
    actions = read_actions(running.run)
    freeze = actions.of_key("f")
    assert freeze is not None
    assert (freeze.op, freeze.arguments) == ("freeze", {"layers": 2, "embeddings": True})
    careful = actions.named("careful")
    assert careful is not None
    assert (careful.label, careful.confirm) == ("careful save", True)
    assert actions.alert_drop == 0.2


def test_stopping_has_no_key_even_if_the_file_gives_it_one(running: WrittenRun) -> None:
    actions = read_actions(running.run)
    assert actions.of_key("k") is None
    assert actions.of_op("stop") is not None


@pytest.mark.parametrize("text", ["name = ", 'name = "x"\n'])
def test_a_profile_without_actions_says_so(make_run: Callable[..., WrittenRun], text: str) -> None:
    actions = read_actions(make_run(profile=text).run)
    assert not actions.actions
    assert "profile.toml" in actions.problem


def test_a_held_key_acts_once(running: WrittenRun) -> None:
    desk, clock = desk_of(running)
    presses = []
    for _ in range(30):
        presses.append(desk.is_repeat("f"))
        clock.now += 0.033
    assert presses == [False] + [True] * 29
    clock.now += 1.0
    assert not desk.is_repeat("f")
    assert not desk.is_repeat("u"), "another key is another press"


def test_pausing_a_paused_run_resumes_it(running: WrittenRun) -> None:
    desk, _ = desk_of(running)
    feed = RunFeed(running.run)
    pause = desk.actions.of_op("pause")
    assert pause is not None
    assert desk.resolve_toggle(pause, feed.live).op == "pause"
    identity = request_command(running.run, "pause")
    feed.poll()
    assert desk.resolve_toggle(pause, feed.live).op == "resume", "it is about to be paused"
    running.command(identity, "pause", "done", 85)
    feed.poll()
    assert desk.resolve_toggle(pause, feed.live).op == "resume"
    identity = request_command(running.run, "resume")
    feed.poll()
    assert desk.resolve_toggle(pause, feed.live).op == "pause"


@pytest.mark.parametrize(
    ("state", "status", "word", "command"),
    [
        (WorkerState.DEAD, "", "is dead", "sf resume {}"),
        (WorkerState.FINISHED, "stopped", "was stopped", "sf resume {}"),
        (WorkerState.FINISHED, "failed", "has failed", "sf resume {}"),
        (WorkerState.FINISHED, "completed", "is completed", "sf diagnose {}"),
        (WorkerState.FINISHED, "guard_failed", "is completed", "sf diagnose {}"),
    ],
)
def test_nothing_is_sent_to_a_worker_that_is_gone(
    running: WrittenRun, state: WorkerState, status: str, word: str, command: str
) -> None:
    desk, _ = desk_of(running)
    freeze = desk.actions.of_key("f")
    refusal = desk.why_not(state, freeze, status)
    assert word in refusal
    assert refusal.endswith(f"`{command.format(running.run.id)}`")
    assert ("resume" in refusal) == (command != "sf diagnose {}")


def test_recover_on_a_completed_run_names_the_command_that_does_it(running: WrittenRun) -> None:
    desk, _ = desk_of(running)
    refusal = desk.why_not(WorkerState.FINISHED, desk.actions.of_op("recover"), "completed")
    assert refusal.endswith(f"`sf recover {running.run.id} --out DIR`")


def test_a_read_only_desk_sends_nothing_and_says_so(running: WrittenRun) -> None:
    desk, _ = desk_of(running, read_only=True)
    assert "read-only" in desk.why_not(WorkerState.ALIVE)
    freeze = desk.actions.of_key("f")
    assert freeze is not None
    with pytest.raises(RunError, match="read-only"):
        desk.send(freeze)
    assert CommandTail(running.run.commands).poll() == []


def test_rollback_goes_to_checkpoints_that_are_there(running: WrittenRun) -> None:
    running.steps(86, 230)
    feed = RunFeed(running.run)
    targets = rollback_targets(running.run, feed.live)
    assert [target.step for target in targets] == [200, 100, 0]
    assert targets[1].scores["old"].value == pytest.approx(0.4, abs=0.05)
    (running.run.checkpoints / "new" / "step-000100").rmdir()
    (running.run.checkpoints / "new" / "step-000200").rename(
        running.run.checkpoints / "new" / "step-000200.abandoned-1"
    )
    assert [target.step for target in rollback_targets(running.run, feed.live)] == [0]
