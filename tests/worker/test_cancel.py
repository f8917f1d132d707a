"""A cancelled operation leaves the run as it would have been without it, to the bit."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import JsonObject, read_events
from sf_tui.run.sender import sender_name
from sf_tui.run.state import fold
from support.quick_run import (
    Begin,
    Operator,
    assert_well_told,
    checkpoint_weights,
    commands_of,
    equal,
    events_of,
    final_weights,
    live_course,
    live_probes,
    work,
)
from support.short_ops import QUICK, shorten_arms


class DuringOperation:
    """Asks for something once, while an operation is at a certain part."""

    def __init__(self, run: RunDirectory, part: str, *asked: tuple[str, dict[str, Any]]) -> None:
        self._run = run
        self._part = part
        self._asked = asked
        self.ids: list[str] = []

    def __call__(self, event: JsonObject) -> None:
        if event["type"] == "operation" and self._part in event["part"] and not self.ids:
            self.ids = [
                request_command(self._run, action, arguments, by="bob")
                for action, arguments in self._asked
            ]


def same_as(run: RunDirectory, undisturbed: RunDirectory) -> None:
    """Assert that two runs took the same steps to the same bits, and probed at the same ones."""
    assert live_course(run) == live_course(undisturbed)
    assert live_probes(run) == live_probes(undisturbed)
    assert equal(final_weights(run), final_weights(undisturbed))
    for step in (4, 8):
        ours, theirs = (checkpoint_weights(one, "new", step) for one in (run, undisturbed))
        assert equal(ours, theirs), step


@pytest.mark.parametrize(
    ("action", "part"),
    [
        ("diagnose", "scoring the start weights"),
        ("diagnose", "neighbors"),
        # Before it has begun, as a diagnosis that has only scored.
        pytest.param("recover", "", marks=pytest.mark.slow),
        ("recover", "repairing"),
        ("anchor", "the start model's answers"),
    ],
)
def test_a_cancelled_operation_leaves_no_trace(
    begin: Begin,
    plain: RunDirectory,
    action: str,
    part: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorten_arms(monkeypatch)
    run = begin(*QUICK)
    operator = Operator(run).at("new", 3, "freeze", layers=1).at("new", 6, action)
    cancelling = DuringOperation(run, part, ("cancel", {}))
    assert work(run, operator, cancelling) == 0
    assert cancelling.ids
    assert (action, "cancelled") in commands_of(run)
    assert ("cancel", "done") in commands_of(run)
    assert (action, "done") not in commands_of(run)
    assert not events_of(run, "diagnosis")
    assert_well_told(run)
    same_as(run, plain)


def by_id(run: RunDirectory, identity: str) -> list[tuple[str, str | None]]:
    """Return status and reason of each answer to a command."""
    return [
        (event["status"], event["reason"])
        for event in events_of(run, "command")
        if event["id"] == identity
    ]


def test_a_second_diagnosis_is_refused_at_once_and_what_waits_can_be_dropped(
    begin: Begin, plain: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_arms(monkeypatch)
    run = begin(*QUICK)
    during = DuringOperation(
        run,
        "scoring the start weights",
        ("diagnose", {}),
        ("recover", {}),
        ("recover", {}),
        ("unfreeze", {}),
        ("cancel", {"command": "recover"}),
        ("cancel", {"command": "nonsense"}),
        ("cancel", {"command": "unfreeze"}),
    )
    operator = Operator(run).at("new", 3, "freeze", layers=1).at("new", 6, "diagnose")
    assert work(run, operator, during) == 0
    again, first, second, unfreeze, drop, nonsense, _ = during.ids
    assert by_id(run, again)[0][0] == "refused"
    assert "already under way, asked for by new:6:diagnose" in str(by_id(run, again)[0][1])
    assert by_id(run, first) == [("cancelled", "by bob, before it began")]
    assert by_id(run, second)[0][0] == "refused"
    assert "a recover waits already" in str(by_id(run, second)[0][1])
    assert by_id(run, unfreeze)[0][0] == "cancelled"
    assert by_id(run, drop)[-1] == ("done", "cancelled: recover")
    assert by_id(run, nonsense) == [("refused", "no nonsense is under way or waits")]
    assert len(events_of(run, "diagnosis")) == 1
    assert_well_told(run)
    same_as(run, plain)


def test_progress_is_told_and_a_pause_is_accepted_at_once_and_holds_after_it(
    begin: Begin,
) -> None:
    run = begin(*QUICK)
    during = DuringOperation(run, "scoring the start weights", ("pause", {}))
    paused: list[bool] = []

    def resume_later(event: JsonObject) -> None:
        if (event["type"], event.get("action")) == ("command", "diagnose") and event[
            "status"
        ] == "done":
            paused.append(fold(read_events(run.events)).paused)
            request_command(run, "resume", by="bob")

    operator = Operator(run).at("new", 6, "diagnose").at("new", 7, "anchor")
    assert work(run, operator, during, resume_later) == 0
    order = [
        (event["type"], event.get("action"), event.get("status"))
        for event in events_of(run)
        if event["type"] in {"command", "diagnosis"}
    ]
    at = order.index(("command", "pause", "done"))
    assert order[at + 1 : at + 5] == [
        ("diagnosis", None, None),
        ("command", "diagnose", "done"),
        ("command", "resume", "accepted"),
        ("command", "resume", "done"),
    ]
    assert paused == [True]
    told = events_of(run, "operation")
    assert (told[0]["elapsed_s"], told[0]["part"]) == (0, "")
    arms = {event["part"]: event for event in told if event["op"] == "diagnose" and event["number"]}
    assert [(name, arm["number"], arm["parts"]) for name, arm in arms.items()] == [
        ("examples", 1, 3),
        ("neighbors", 2, 3),
        ("edit", 3, 3),
    ]
    assert arms["examples"]["total"] == 40
    prompts = [event for event in told if event["op"] == "anchor"]
    assert (prompts[-1]["unit"], prompts[-1]["total"]) == ("prompts", 64)
    (times,) = [one for one in events_of(run, "operation_times") if one["stage"] == "new"]
    assert set(times["seconds"]) == {"anchor", "diagnose", "recover"}
    assert all(seconds > 0 for seconds in times["seconds"].values())
    state = fold(read_events(run.events))
    assert state.operation is None
    # The last one of this run counts for the next one.
    took = state.expected_seconds("diagnose")
    assert took is not None
    assert took != times["seconds"]["diagnose"]


def test_a_stop_ends_the_operation_and_leaves_no_command_without_an_answer(begin: Begin) -> None:
    run = begin(*QUICK)
    asked = [(action, {}) for action in ("freeze", "pause", "stop", "pause", "diagnose")]
    during = DuringOperation(run, "scoring the start weights", *asked)
    assert work(run, Operator(run).at("new", 6, "diagnose"), during) == 5
    assert not events_of(run, "diagnosis")
    statuses = [[status for status, _ in by_id(run, identity)] for identity in during.ids]
    refused, done = ["refused"], ["accepted", "done"]
    assert statuses == [refused, done, done, refused, refused]
    assert work(run) == 0
    assert_well_told(run)


def test_a_cancel_while_nothing_is_under_way_is_refused(begin: Begin) -> None:
    run = begin("train.steps=2")
    assert work(run, Operator(run).at("new", 1, "cancel")) == 0
    (answer,) = events_of(run, "command")
    assert (answer["status"], answer["reason"]) == ("refused", "nothing is under way or waits")


class Killed(BaseException):
    """The worker is gone, as after a kill."""


class KillDuring:
    """Ends the worker while an operation is at a certain part, once."""

    def __init__(self, part: str) -> None:
        self._part = part

    def __call__(self, event: JsonObject) -> None:
        if event["type"] == "operation" and self._part in event["part"]:
            raise Killed


def test_a_repair_that_a_resume_repeats_can_be_cancelled_unless_steps_came_after_it(
    begin: Begin, plain: RunDirectory
) -> None:
    run = begin(*QUICK)
    operator = Operator(run).at("new", 3, "freeze", layers=1).at("new", 6, "recover")
    with pytest.raises(Killed):
        work(run, operator, KillDuring("repairing"))
    cancelling = DuringOperation(run, "repairing", ("cancel", {}))
    assert work(run, cancelling) == 0
    assert [e["status"] for e in events_of(run, "command") if e["action"] == "recover"] == [
        "accepted",
        "cancelled",
    ]
    same_as(run, plain)


def test_a_repair_that_later_steps_depend_on_is_repeated_to_its_end(begin: Begin) -> None:
    run, straight = begin(*QUICK), begin(*QUICK, name="straight")
    assert work(straight, Operator(straight).at("new", 5, "recover")) == 0

    def kill(event: JsonObject) -> None:
        if (event["type"], event.get("stage"), event.get("step")) == ("step", "new", 7):
            raise Killed

    with pytest.raises(Killed):
        work(run, Operator(run).at("new", 5, "recover"), kill)
    # What was saved after the repair is lost.
    for folder in (run.checkpoints / "new").glob("step-000005*"):
        shutil.rmtree(folder)

    def cancel(event: JsonObject) -> None:
        # Before this step nothing is under way yet; after it comes the repetition.
        if (event["type"], event.get("stage"), event.get("step")) == ("step", "new", 5):
            request_command(run, "freeze")
            for which in ("recover", "all", None):
                request_command(run, "cancel", {"command": which} if which else {})

    assert work(run, cancel) == 0
    told = [(e["action"], e["status"], e["reason"]) for e in events_of(run, "command")]
    held = "the steps after it depend on it, so a resume repeats it"
    refused = ("cancel", "refused", f"recover can't be cancelled: {held}")
    assert told[-5:] == [
        refused,
        ("cancel", "accepted", None),
        ("freeze", "cancelled", f"by {sender_name()}, before it began"),
        ("cancel", "done", f"cancelled: freeze; recover goes on: {held}"),
        refused,
    ]
    assert equal(final_weights(run), final_weights(straight))
