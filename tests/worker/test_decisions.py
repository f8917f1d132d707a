"""What a step obeys is plain data: it can be sent as JSON and has the same effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from sf_tui.engine.ranks import Ranks
from sf_tui.run.directory import RunDirectory
from sf_tui.vocabulary.commands import Command
from sf_tui.worker.commands import CommandRunner
from sf_tui.worker.decisions import CommandQueue, Decisions
from sf_tui.worker.stop import StopSignals
from support.busy_run import RULES, operate
from support.quick_run import (
    Begin,
    assert_well_told,
    commands_of,
    equal,
    final_weights,
    live_course,
    work,
)
from worker.test_resume_log import firings


def test_decisions_survive_json() -> None:
    decisions = Decisions(
        "new",
        12,
        replays=(Command("c-1", "hold", "freeze", {"layers": 2}, status="done", seq=7, step=11),),
        stop="by signal SIGTERM",
        commands=(
            Command("protect:new:12:0", "anchor", arguments={"strength": 1.5}, value=0.25),
            Command("odd", "freeze", arguments=["by", "hand"]),
        ),
        probe=True,
        paused=True,
    )
    assert Decisions.from_json(decisions.to_json()) == decisions
    assert not decisions.is_final
    assert Decisions("new", 12, probe=True).is_final


class _SecondRank(Ranks):
    rank, world = 1, 2


def test_a_rank_takes_over_a_pause_that_rank_0_alone_has_carried_out() -> None:
    sent = Decisions("new", 3, paused=True).to_json().decode()
    context: Any = SimpleNamespace(
        ranks=_SecondRank(),
        signals=StopSignals(),
        decide=lambda _: sent,
        poll_stop=None,
        beside=None,
    )
    stage: Any = SimpleNamespace(name="new", step=3)
    runner = CommandRunner(context, stage)
    assert runner.before_step(3, probe=False).paused
    assert runner._target.paused


def test_decisions_that_went_through_json_have_the_same_effect(
    begin: Begin, busy: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_step, after_step = CommandQueue.before_step, CommandQueue.after_step
    sent: list[Decisions] = []

    def send(decisions: Decisions) -> Decisions:
        sent.append(decisions)
        return Decisions.from_json(decisions.to_json())

    def before(self: CommandQueue, step: int, *, probe: bool) -> Decisions:
        return send(before_step(self, step, probe=probe))

    def after(
        self: CommandQueue, metrics: Mapping[str, float | None], step: int
    ) -> Iterator[Decisions]:
        return map(send, after_step(self, metrics, step))

    monkeypatch.setattr(CommandQueue, "before_step", before)
    monkeypatch.setattr(CommandQueue, "after_step", after)
    run = begin(more=RULES, name="sent")
    assert work(run, operate(run)) == 0
    assert_well_told(run)
    assert commands_of(run) == commands_of(busy)
    assert firings(run) == firings(busy)
    assert live_course(run) == live_course(busy)
    assert equal(final_weights(run), final_weights(busy))
    assert {command.by for one in sent for command in one.commands} >= {"hold", "back"}
