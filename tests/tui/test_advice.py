"""What is suggested, at which point of a run that loses its old task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import pytest

from sf_tui.run.commands import request_command
from sf_tui.tui.actions import read_actions
from sf_tui.tui.advice import (
    BEFORE_GOING_ON,
    COST_TOO_MUCH,
    HELD,
    HELD_BACK,
    LOST_BEFORE,
    START_AGAIN,
    STRONGER,
    WEAKER,
    Situation,
    advise,
    closing_command,
    remark,
    situation_of,
    suggested_actions,
)
from sf_tui.tui.feed import RunFeed
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.declared import AnchorState
from sf_tui.vocabulary.events import Rewound, RunFinished
from tui.written_run import PROFILE, WrittenRun

MakeRun = Callable[..., WrittenRun]


def scene_of(written: WrittenRun, **more: bool) -> ViewState:
    feed = RunFeed(written.run)
    return ViewState(written.run, newest=feed.live, actions=read_actions(written.run), **more)


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


def test_nothing_is_advised_where_nothing_is_lost(make_run: MakeRun) -> None:
    written = make_run()
    written.begin()
    written.begin_stage()
    written.steps(1, 2)
    assert advised(written) == []


def test_a_fall_in_the_window_is_held_before_few_examples_prove_the_alerts_loss() -> None:
    falling = Situation(falling=True, in_window=True)
    assert advise(falling).ops == ("anchor", "freeze")
    assert not advise(replace(falling, in_window=False)).ops
    # The anchor has half of the stage to win it back; then it is repaired, once.
    assert not advise(replace(falling, anchored=True)).ops
    late = replace(falling, anchored=True, late=True)
    assert advise(late).ops == ("recover",)
    assert not advise(replace(late, can_repair=False)).ops
    assert not advise(replace(falling, frozen=True)).ops


def test_a_sure_loss_of_a_quarter_of_the_bound_is_a_fall(make_run: MakeRun) -> None:
    written = make_run()
    written.begin()
    written.begin_stage()
    written.steps(1, 5)
    now = situation_of(scene_of(written))
    assert now.falling
    assert not now.lost
    assert advised(written) == ["anchor", "freeze"]


def mend(written: WrittenRun, step: int, *, then_anchor: bool = True, old: float = 0.98) -> None:
    """Repair as the worker does: probe, answer, and from then on an anchor."""
    written.old = old
    arguments = {"then_anchor": then_anchor}
    name = f"r-{step}"
    written.command(name, "recover", "accepted", step, arguments=arguments)
    written.probe(step)
    written.command(name, "recover", "done", step, arguments=arguments)
    written.anchor = AnchorState() if then_anchor else written.anchor


def said(written: WrittenRun) -> str:
    return remark(scene_of(written))


def test_in_the_window_the_next_steps_are_held_first_and_then_the_loss_is_repaired(
    losing: WrittenRun,
) -> None:
    assert advised(losing) == ["anchor", "freeze"], "the anchor keeps most"
    losing.freeze(40)
    losing.probe(40)
    assert advised(losing) == ["recover"], "a freeze is no longer in a repair's way"


def test_an_anchored_run_is_not_told_to_anchor(losing: WrittenRun) -> None:
    losing.take_anchor(40)
    assert advised(losing) == ["recover"]


def test_behind_the_window_a_repair_is_advised(losing: WrittenRun) -> None:
    losing.steps(41, 170)
    assert advised(losing) == ["recover"]


def test_behind_a_repair_that_is_held_nothing_is_left_to_do(losing: WrittenRun) -> None:
    mend(losing, 40)
    assert advised(losing) == []
    assert said(losing) == HELD
    losing.steps(41, 60)
    assert advised(losing) == []
    assert said(losing) == HELD


def test_behind_a_repair_that_nothing_holds_the_anchor_is_advised(losing: WrittenRun) -> None:
    mend(losing, 40, then_anchor=False)
    assert advised(losing) == ["anchor"]
    assert said(losing) == BEFORE_GOING_ON
    losing.command("c-9", "anchor", "refused", 40)
    assert advised(losing) == [], "it can't be anchored"
    assert said(losing) == ""


def test_a_loss_under_the_protection_of_the_last_repair_gets_more_of_it(
    losing: WrittenRun,
) -> None:
    mend(losing, 40)
    lose(losing, 60)
    assert advised(losing) == ["freeze"]
    assert said(losing) == STRONGER.format(run=losing.run.id)
    losing.freeze(60)
    losing.probe(60)
    assert advised(losing) == ["recover"]
    mend(losing, 61)
    lose(losing, 80)
    assert advised(losing) == ["diagnose"]
    losing.diagnose(80)
    assert advised(losing) == ["rollback"]


def test_a_repair_that_fails_is_not_advised_again(losing: WrittenRun) -> None:
    losing.take_anchor(40)
    losing.command("c-8", "recover", "accepted", 40)
    losing.command("c-8", "recover", "failed", 40, reason="nothing better was found")
    assert advised(losing) == ["freeze"]


def test_a_verdict_decides(losing: WrittenRun) -> None:
    losing.diagnose(40)
    assert advised(losing) == ["recover"]
    losing.diagnose(40, verdict="real")
    assert advised(losing) == ["rollback", "anchor"]
    losing.diagnose(40, verdict="inconclusive")
    assert advised(losing) == ["anchor", "freeze"]


def test_what_is_gone_can_only_be_taught_again_once_nothing_else_is_left() -> None:
    gone = Situation(lost=True, verdict="real", anchored=True, frozen=True, gone_back=True)
    advice = advise(gone)
    assert (advice.ops, advice.last_resorts, advice.remark) == ((), ("recover",), "")
    taught = advise(replace(gone, can_repair=False))
    assert (taught.ops, taught.last_resorts, taught.remark) == ((), (), START_AGAIN)


def test_a_verdict_on_weights_that_were_changed_decides_nothing(losing: WrittenRun) -> None:
    losing.diagnose(40)
    losing.command("c-7", "interpolate", "done", 40)
    lose(losing, 40)
    assert advised(losing) == ["anchor", "freeze"]


def test_a_repair_that_costs_the_new_task_is_undone_and_not_advised_again(
    losing: WrittenRun,
) -> None:
    losing.new = 0.9
    losing.probe(40)
    losing.new = 0.3
    mend(losing, 40)
    assert advised(losing) == ["rollback"]
    assert said(losing) == COST_TOO_MUCH
    losing.command("c-9", "rollback", "accepted", 40)
    losing.event(Rewound("new", 40, "rollback", 0, "step-000040~1"))
    losing.anchor, losing.new = None, 0.9
    losing.command("c-9", "rollback", "done", 40)
    losing.step(41)
    lose(losing, 41)
    assert advised(losing) == ["anchor", "freeze"]
    losing.take_anchor(41)
    assert "recover" not in advised(losing)


def test_an_anchor_that_keeps_the_new_task_out_is_released_once(make_run: MakeRun) -> None:
    written = make_run()
    written.begin()
    written.begin_stage()
    written.take_anchor(0)
    written.steps(1, 20)
    written.new = 0.1
    for step in range(21, 161):
        written.step(step)
    written.probe(160)
    assert advised(written) == ["unanchor"]
    assert said(written) == HELD_BACK
    written.command("c-5", "unanchor", "done", 160)
    written.anchor = None
    assert advised(written) == []
    written.take_anchor(161)
    assert advised(written) == []
    assert said(written) == WEAKER.format(run=written.run.id)


def test_what_an_earlier_stage_lost_is_held_then_repaired_then_named_with_that_stage(
    make_run: MakeRun,
) -> None:
    written = make_run()
    written.begin(stages=("new", "new-2"))
    written.begin_stage()
    written.steps(1, 300)
    written.begin_stage("new-2", known=("old", "new"))
    assert advised(written) == ["anchor"], "it is held to the run's start"
    written.take_anchor(0, "new-2")
    written.old = 0.5
    written.steps(1, 10, "new-2")
    assert advised(written) == []
    written.old = 0.4
    written.step(160, "new-2")
    written.probe(160, "new-2")
    assert advised(written) == ["recover"]
    written.command("c-7", "recover", "failed", 160, "new-2", reason="nothing better was found")
    assert advised(written) == []
    run = written.run.id
    assert said(written) == LOST_BEFORE.format(stage="new", run=run)
    written.event(RunFinished(status="completed", exit_code=0, metrics={}, reason=""))
    assert closing_command(scene_of(written)) == f"sf diagnose {run} --stage new"


def everything(now: Situation) -> Iterator[Situation]:
    """Yield what training may make of a situation: it may lose, or keep the new task out."""
    for lost, falling, before, late, in_window, held_back, wrecked in product(
        (True, False), repeat=7
    ):
        yield replace(
            now,
            lost=lost,
            falling=falling,
            lost_before=before,
            late=late,
            in_window=in_window,
            new_held_back=held_back and now.anchored,
            new_wrecked=wrecked and now.repaired,
        )


def after(op: str, now: Situation, undone: bool) -> Iterator[tuple[Situation, bool]]:
    """Yield what an op may make of a situation, and whether a repair was undone."""
    again = not undone
    if op == "anchor":
        yield replace(now, anchored=True, can_repair=again), undone
    elif op == "freeze":
        yield replace(now, frozen=True, can_repair=again), undone
    elif op == "unanchor":
        yield replace(now, anchored=False, released=True), undone
    elif op == "recover":
        for anchored in {True, now.anchored}:
            done = replace(now, anchored=anchored, repaired=True, can_repair=False, verdict="")
            yield done, False
    elif op == "diagnose":
        for verdict in ("none", "spurious", "partial", "real", "inconclusive"):
            yield replace(now, verdict=verdict), undone
    elif op == "rollback":
        for frozen, anchored in product({False, now.frozen}, {False, now.anchored}):
            back = replace(
                now,
                frozen=frozen,
                anchored=anchored,
                repaired=False,
                can_repair=now.can_repair and not now.repaired,
                gone_back=True,
                verdict="",
            )
            yield back, undone or now.repaired
    else:
        raise AssertionError(op)


def test_advice_followed_to_the_letter_ends_whatever_training_does() -> None:
    ended: set[tuple[Situation, bool]] = set()
    under_way: set[tuple[Situation, bool]] = set()

    def lasting(now: Situation) -> Situation:
        unlasting = (
            *("lost", "falling", "lost_before", "late"),
            *("in_window", "new_wrecked", "new_held_back"),
        )
        return replace(now, **dict.fromkeys(unlasting, False))

    def follow(now: Situation, undone: bool) -> None:
        place = (now, undone)
        assert place not in under_way, f"back where it was: {now}"
        if place in ended:
            return
        under_way.add(place)
        for seen in everything(now):
            advice = advise(seen)
            for op in advice.ops or advice.last_resorts:
                for then, undone_then in after(op, seen, undone):
                    follow(lasting(then), undone_then)
        under_way.remove(place)
        ended.add(place)

    follow(Situation(), False)
    assert len(ended) > 40


def test_what_was_just_asked_for_is_not_advised_again(losing: WrittenRun) -> None:
    request_command(losing.run, "freeze")
    assert advised(losing) == ["anchor"]
    assert said(losing) == ""


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
