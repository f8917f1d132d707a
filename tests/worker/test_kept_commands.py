"""A command that is sent while the worker starts is carried out at the first step."""

from __future__ import annotations

import pytest

from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import JsonObject, read_events
from sf_tui.run.state import fold
from sf_tui.worker.stop import StopSignals
from sf_tui.worker.worker import Worker
from support.quick_run import (
    Begin,
    Operator,
    assert_well_told,
    commands_of,
    equal,
    events_of,
    final_weights,
    work,
)


def frozen_from_the_first_step(run: RunDirectory) -> bool:
    state = fold(read_events(run.events))
    return {"embeddings", "block-0", "block-1"} <= set(state.stages["old"].frozen)


def test_a_command_sent_before_the_worker_has_started_is_carried_out_at_step_0(
    begin: Begin,
) -> None:
    asked, told = (begin("train.steps=4", name=name) for name in ("asked", "told"))
    request_command(asked, "freeze", {"layers": 2})
    assert work(asked) == 0
    (accepted, done) = events_of(asked, "command")
    assert [accepted["status"], done["status"]] == ["accepted", "done"]
    assert (done["stage"], done["step"]) == ("old", 0)
    assert frozen_from_the_first_step(asked)

    def freeze(event: JsonObject) -> None:
        if event["type"] == "run_started":
            request_command(told, "freeze", {"layers": 2})

    assert work(told, freeze) == 0
    assert equal(final_weights(asked), final_weights(told))


def test_a_pause_sent_before_the_start_holds_the_first_step(begin: Begin) -> None:
    run = begin("train.steps=2")
    request_command(run, "pause")
    steps_before = []

    def resume(event: JsonObject) -> None:
        if event["type"] == "command" and (event["action"], event["status"]) == ("pause", "done"):
            steps_before.extend(events_of(run, "step"))
            request_command(run, "resume")

    assert work(run, resume) == 0
    assert not steps_before
    assert commands_of(run)[-1] == ("resume", "done")


def test_a_cancel_drops_what_is_kept(begin: Begin) -> None:
    run = begin("train.steps=2")
    request_command(run, "freeze")
    request_command(run, "checkpoint")
    request_command(run, "cancel", {"command": "freeze"})
    assert work(run) == 0
    assert commands_of(run) == [
        ("cancel", "accepted"),
        ("freeze", "cancelled"),
        ("cancel", "done"),
        ("checkpoint", "accepted"),
        ("checkpoint", "done"),
    ]
    assert_well_told(run)


class Killed(BaseException):
    """The worker is gone, as after a kill."""


def test_what_was_sent_to_a_worker_that_never_began_waits_for_the_next(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin("train.steps=2")

    def die(*_: object, **__: object) -> None:
        request_command(run, "freeze", {"layers": 2})
        request_command(run, "stop")
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("sf_tui.worker.worker.prepare_run", die)
        with pytest.raises(Killed):
            work(run)
    assert work(run) == 0, "the stop was for the worker that is gone"
    assert commands_of(run) == [
        ("stop", "refused"),
        ("freeze", "accepted"),
        ("freeze", "done"),
    ]
    assert frozen_from_the_first_step(run)


def test_what_was_sent_to_the_worker_of_a_begun_run_that_is_gone_is_refused(
    begin: Begin,
) -> None:
    run = begin("train.steps=4")
    assert work(run, Operator(run).at("new", 2, "stop")) == 5
    request_command(run, "freeze")
    assert work(run) == 0
    refused = events_of(run, "command")[-1]
    assert (refused["action"], refused["status"]) == ("freeze", "refused")
    assert "send it again" in refused["reason"]


def test_what_is_sent_while_a_resumed_worker_starts_is_kept(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sf_tui.worker import worker as module

    run = begin("train.steps=4")
    assert work(run, Operator(run).at("new", 2, "stop")) == 5
    prepare = module.prepare_run

    def ask(*given: object, **more: object) -> object:
        request_command(run, "freeze", {"layers": 1})
        return prepare(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "prepare_run", ask)
    assert work(run) == 0
    done = events_of(run, "command")[-1]
    assert (done["action"], done["status"], done["step"]) == ("freeze", "done", 2)


def test_a_signal_before_the_first_step_answers_what_waits(begin: Begin) -> None:
    run = begin()
    request_command(run, "freeze")
    signals = StopSignals()
    signals.received = "SIGTERM"
    assert Worker(run, signals).work() == 5
    (answer,) = events_of(run, "command")
    assert (answer["status"], answer["reason"]) == ("refused", "the run was being stopped")
