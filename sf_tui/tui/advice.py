"""Which action the console suggests in a run's state; after the run's end, which command.

`advise` is a decision table over a `Situation` and knows nothing else. Followed to the letter, it
comes to an end: whatever it suggests either turns a protection on, or is suggested again only after
one was turned on, or is suggested once in a stage.
"""

from __future__ import annotations

from dataclasses import dataclass

from sf_tui.run.losses import TaskLoss, score_of, task_losses
from sf_tui.run.stage_state import StageState, WeightChange
from sf_tui.tui.actions import Action
from sf_tui.tui.live_state import LiveState
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.commands import DONE, FAILED, REFUSED, Command
from sf_tui.vocabulary.events import Probe
from sf_tui.vocabulary.measured import Score, drop_between
from sf_tui.vocabulary.ops import (
    ANCHORED,
    FROZEN,
    GO_BACK,
    OPS,
    PROTECT,
    RECOVER,
    TEST,
    op_named,
    op_that_turns_off,
    ops_for,
)
from sf_tui.vocabulary.verdicts import is_recoverable

MOST_SUGGESTED = 2
"""Most actions suggested at a time; more would be no suggestion."""
LEARNED = 0.5
"""Score below which an anchored task counts as not learned in the second half of its stage."""
FALLING = 0.25
"""Share of the alert's bound from which a certain loss is worth holding or winning back."""
HELD = "held by the anchor"
BEFORE_GOING_ON = "before you go on"
HELD_BACK = "(the anchor holds the new task back)"
WEAKER = "a weaker anchor lets the new task in: sf act {run} anchor --set strength=…"
STRONGER = "a stronger anchor holds more: sf act {run} anchor --set strength=…"
COST_TOO_MUCH = "(the repair cost the new task too much)"
START_AGAIN = "start another run with a lower rate or strategy replay"
LOST_BEFORE = "lost in stage {stage}: after the run, sf diagnose {run} --stage {stage}"


_PROTECTED = frozenset({ANCHORED, FROZEN})


@dataclass(frozen=True)
class Situation:
    """What the advice in a stage depends on.

    Attributes:
        lost: whether a watched task has lost more in this stage than the alert's bound.
        falling: whether one has surely lost something, in this stage or since the run began, and
            as it looks a quarter of the bound or more.
        lost_before: whether one has lost more than the bound since the run began.
        late: whether the stage is in its second half.
        in_window: whether the stage is in a danger window.
        verdict: that of a recovery test on the current weights; empty for none.
        frozen: whether layers are frozen.
        anchored: whether the stage is anchored.
        repaired: whether the weights come from a repair in this stage.
        can_repair: whether a repair has not been tried yet under this protection, or undone.
        can_test: whether no recovery test has failed in this stage.
        new_wrecked: whether the newest repair or edit cost the new task more than the bound.
        new_held_back: whether the anchor keeps the new task from being learned or kept.
        gone_back: whether the stage was rolled back before.
        released: whether an anchor was released in this stage before.
    """

    lost: bool = False
    falling: bool = False
    lost_before: bool = False
    late: bool = False
    in_window: bool = False
    verdict: str = ""
    frozen: bool = False
    anchored: bool = False
    repaired: bool = False
    can_repair: bool = True
    can_test: bool = True
    new_wrecked: bool = False
    new_held_back: bool = False
    gone_back: bool = False
    released: bool = False


@dataclass(frozen=True)
class Advice:
    """Ops to suggest, best first, and a remark.

    Attributes:
        ops: names of the ops; those without a key are skipped.
        last_resorts: ops to suggest if none of `ops` has a key.
        remark: after the suggested keys, or alone; with `{run}` for the run's id.
    """

    ops: tuple[str, ...] = ()
    last_resorts: tuple[str, ...] = ()
    remark: str = ""


def advise(now: Situation) -> Advice:
    """Return the advice for a situation."""
    # The anchor keeps most: 0.96 to 0.99 of the old task where freezing keeps 0.59 to 0.75.
    protecting = tuple(
        op
        for state, on in ((ANCHORED, now.anchored), (FROZEN, now.frozen))
        for op in ops_for(PROTECT)
        if OPS[op].turns_on == state and not on
    )
    anchoring = tuple(op for op in protecting if OPS[op].turns_on == ANCHORED)
    back = () if now.gone_back else tuple(ops_for(GO_BACK))
    if now.new_wrecked:
        return Advice(back, remark=COST_TOO_MUCH)
    if not now.lost:
        if now.new_held_back:
            if now.released:
                return Advice(remark=WEAKER)
            return Advice((op_that_turns_off(ANCHORED),), remark=HELD_BACK)
        held = now.anchored or now.lost_before
        if held and now.falling and now.late and now.can_repair:
            # An anchor wins back much of a fall by itself, of an earlier stage's too; the rest
            # takes a repair.
            return Advice(tuple(ops_for(RECOVER)))
        if now.anchored:
            return Advice(remark=HELD) if now.repaired or now.gone_back else Advice()
        if now.repaired or now.gone_back:
            return Advice(anchoring, remark=BEFORE_GOING_ON)
        if now.lost_before and not now.released:
            return Advice(anchoring)
        if now.falling and now.in_window and not now.frozen:
            # Few examples prove a loss late; what is held before that needs no repair.
            return Advice(protecting)
        return Advice()
    if now.verdict == "real":
        # These weights no longer contain the knowledge; only the start model could teach it again.
        teaching = tuple(ops_for(RECOVER)) if now.can_repair else ()
        left = back or protecting or teaching
        return Advice(back + protecting, teaching, remark="" if left else START_AGAIN)
    unprotected = not (now.anchored or now.frozen)
    if now.in_window and unprotected and not is_recoverable(now.verdict):
        # The loss goes on with every step: hold it first, which takes seconds.
        return Advice(protecting, (*ops_for(RECOVER), *back))
    if now.can_repair:
        return Advice(tuple(ops_for(RECOVER)), (*anchoring, *back))
    # Repaired once under this protection, and lost again.
    stronger = STRONGER if now.anchored else ""
    if protecting:
        return Advice(protecting, back, remark=stronger)
    if not now.verdict and now.can_test and not now.gone_back:
        # After a rollback the same test would lead to the same rollback.
        return Advice(tuple(ops_for(TEST)), back, remark=stronger)
    return Advice(back, remark="" if back else START_AGAIN)


def situation_of(view: ViewState) -> Situation:
    """Return the situation of the viewed run at its newest step."""
    live, stage = view.live, view.live.stage
    if stage is None or not view.known:
        return Situation()
    bound = view.actions.alert_drop
    tried = _tried_in(live, stage)
    done = [command for command in tried if command.status == DONE and command.changed]
    # A repair that failed (it found nothing better) would fail again.
    repaired = max((c.seq for c in tried if op_named(c.op).purpose == RECOVER), default=0)
    protected = max((c.seq for c in done if op_named(c.op).turns_on in _PROTECTED), default=0)
    went_back = max((c.seq for c in done if op_named(c.op).purpose == GO_BACK), default=0)
    change = stage.weight_changes[-1] if stage.weight_changes else None
    losses = task_losses(live)
    drops = [loss.in_stage for loss in losses if loss.in_stage]
    whole = [loss.since_run for loss in losses if loss.since_run]
    return Situation(
        lost=any(drop.exceeds(bound) for drop in drops),
        falling=any(
            drop.exceeds(0.0) and drop.value >= FALLING * bound for drop in (*drops, *whole)
        ),
        lost_before=any(drop.exceeds(bound) for drop in whole),
        late=2 * stage.step >= stage.steps,
        in_window=view.in_window,
        verdict=view.verdict,
        frozen=bool(view.frozen_layers),
        anchored=view.anchor is not None,
        repaired=any(op_named(c.op).purpose == RECOVER for c in stage.weight_changes),
        can_repair=not repaired or (protected > repaired and went_back < repaired),
        can_test=not any(op_named(c.op).purpose == TEST and c.status == FAILED for c in tried),
        new_wrecked=change is not None and _cost_of(live, stage, change, bound),
        new_held_back=view.anchor is not None and _is_held_back(live, stage, bound),
        gone_back=went_back > 0,
        released=any(op_named(c.op).turns_off == ANCHORED for c in done),
    )


def suggested_actions(view: ViewState) -> list[Action]:
    """Return the suggested actions, all with a key."""
    if view.place is not None or view.read_only or view.live.finished is not None:
        return []
    advice = advise(situation_of(view))
    return _usable(view, advice.ops)[:MOST_SUGGESTED] or _usable(view, advice.last_resorts)[:1]


def remark(view: ViewState, run: str = "") -> str:
    """Return the advice's remark; empty for none.

    Args:
        view: the console's.
        run: what stands for the run in a command; its id if not given.
    """
    if view.place is not None or view.live.finished is not None:
        return ""
    situation = situation_of(view)
    advice = advise(situation)
    run = run or view.run.id
    said = advice.remark.format(run=run)
    if view.read_only:
        # The other remarks are about keys that a reader does not have.
        return said if said == HELD else ""
    if said == BEFORE_GOING_ON and not suggested_actions(view):
        return ""
    if not (advice.ops or said or situation.lost):
        return _lost_before(view, run)
    return said


def _lost_before(view: ViewState, run: str) -> str:
    """Return in which earlier stage a task was lost, once nothing more can be done in this one."""
    for loss in task_losses(view.live):
        if loss.since_run is None or not loss.since_run.exceeds(view.actions.alert_drop):
            continue
        stage = _stage_of_loss(view, loss)
        if stage:
            return LOST_BEFORE.format(stage=stage, run=run)
    return ""


def closing_command(view: ViewState) -> str:
    """Return the command that can still help a run that ended with a loss; empty for none."""
    if view.live.finished is None:
        return ""
    bound, run = view.actions.alert_drop, view.run.id
    lost = [loss for loss in task_losses(view.live) if _exceeds(loss, bound)]
    if not lost:
        return ""
    worst = max(lost, key=lambda loss: loss.share_lost)
    stage = "" if worst.in_stage and worst.in_stage.exceeds(bound) else _stage_of_loss(view, worst)
    since = f" --stage {stage}" if stage else ""
    if is_recoverable(view.verdict):
        return f"sf recover {run}{since} --out DIR"
    return "" if view.verdict else f"sf diagnose {run}{since}"


def _exceeds(loss: TaskLoss, bound: float) -> bool:
    drops = (loss.in_stage, loss.since_run)
    return any(drop is not None and drop.exceeds(bound) for drop in drops)


def _stage_of_loss(view: ViewState, loss: TaskLoss) -> str:
    """Return the stage in which a task lost most, if that is not the last one."""
    live = view.live
    found: tuple[float, str] = (0.0, "")
    for stage in live.stages.values():
        if loss.task not in stage.known or not stage.probes:
            continue
        first = score_of(live, loss.task, stage.probes[0], comparable=True)
        last = score_of(live, loss.task, stage.probes[-1], comparable=True)
        if first is not None and last is not None:
            found = max(found, (drop_between(first, last).value, stage.name))
    return "" if live.stage is not None and found[1] == live.stage.name else found[1]


def _tried_in(live: LiveState, stage: StageState) -> list[Command]:
    """Return the commands that were done or failed in a stage, even if a rollback undid them."""
    return [
        command
        for command in live.commands.values()
        if command.stage == stage.name and command.status in (DONE, FAILED)
    ]


def _new_score(live: LiveState, stage: StageState, probe: Probe) -> Score | None:
    return score_of(live, stage.task, probe, comparable=True)


def _cost_of(live: LiveState, stage: StageState, change: WeightChange, bound: float) -> bool:
    """Return whether a weight change cost the new task more than a bound, and it still does."""
    if not live.metric(stage.task).is_share:
        return False
    earlier = [p for p in stage.probes if p.step <= change.step]
    if len(earlier) < 2 or earlier[-1].step != change.step:
        return False
    before, after, now = (
        _new_score(live, stage, probe) for probe in (earlier[-2], earlier[-1], stage.probes[-1])
    )
    if before is None or after is None or now is None:
        return False
    return drop_between(before, after).exceeds(bound) and drop_between(before, now).exceeds(bound)


def _is_held_back(live: LiveState, stage: StageState, bound: float) -> bool:
    """Return whether an anchored stage's task is not learned by half, or falls from its best."""
    if not stage.probes or not live.metric(stage.task).is_share:
        return False
    scores = [_new_score(live, stage, probe) for probe in stage.probes]
    known = [score for score in scores if score is not None]
    now = _new_score(live, stage, stage.probes[-1])
    if not known or now is None:
        return False
    best = max(known, key=lambda score: score.value)
    if drop_between(best, now).exceeds(bound):
        return True
    high = now.estimate.high if now.estimate else now.value
    return 2 * stage.step >= stage.steps and high < LEARNED


def _was_in_vain(command: Command, stage: StageState | None) -> bool:
    """Return whether the worker refused or failed a command in a stage, and would again."""
    here = stage is not None and command.stage == stage.name
    return here and command.status in (REFUSED, FAILED)


def _usable(view: ViewState, ops: tuple[str, ...]) -> list[Action]:
    """Return the actions of some ops that have a key and are neither requested nor refused."""
    stage = view.live.stage
    found = []
    for op in ops:
        action = view.offered.of_op(op)
        if action is None or not action.key:
            continue
        newest = view.live.activity.newest_command(action.name)
        if newest is None or not (newest.is_under_way or _was_in_vain(newest.command, stage)):
            found.append(action)
    return found
