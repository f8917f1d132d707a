"""Which of the profile's actions an alert names: only those that would not be refused now."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from sf_tui.errors import SfError
from sf_tui.profile import Action
from sf_tui.vocabulary.ops import (
    ANCHORED,
    FROZEN,
    GO_BACK,
    PROTECT,
    RECOVER,
    TEST,
    Op,
    op_named,
)
from sf_tui.worker.context import RunContext
from sf_tui.worker.ops import StageControl


def old_task_advice(context: RunContext, stage: StageControl) -> str:
    """Return the actions against the loss of an old task, with their keys.

    Protections come first, then the test whether what is lost can be recovered. Where nothing is
    left to protect with, the repair and the way back.
    """
    if _is_over(context, stage):
        return _after_end(context)
    protections = _suggestions(context, stage, (PROTECT,))
    more = (TEST,) if protections else (TEST, RECOVER, GO_BACK)
    return ", ".join([*protections, *_suggestions(context, stage, more)])


def new_task_advice(context: RunContext, stage: StageControl) -> str:
    """Return the actions against the loss of the task that the stage trains, with their keys."""
    if _is_over(context, stage):
        return "`sf resume` can't undo it; start another run with a weaker protection"
    lifted = [
        _spell(name, action)
        for name, action in context.profile.actions.items()
        if _turns_off_now(op_named(action.op), context, stage)
    ]
    return ", ".join([*lifted, *_suggestions(context, stage, (GO_BACK,))])


def _is_over(context: RunContext, stage: StageControl) -> bool:
    last = context.profile.stages()[-1].name
    return stage.name == last and stage.step >= stage.loop.total_steps


def _after_end(context: RunContext) -> str:
    ops = [op_named(action.op) for action in context.profile.actions.values()]
    run = shlex.quote(context.run.id)
    found = [op.after_end.format(run=run) for op in ops if op.purpose == TEST and op.after_end]
    return f"`{found[0]}`" if found else ""


def _suggestions(context: RunContext, stage: StageControl, purposes: Sequence[str]) -> list[str]:
    """Return actions by purpose, at most one for each op."""
    found: dict[str, tuple[int, str]] = {}
    for name, action in context.profile.actions.items():
        op = op_named(action.op)
        if op.purpose in purposes and op.name not in found and _is_sensible(action, context, stage):
            found[op.name] = (purposes.index(op.purpose), _spell(name, action))
    return [text for _, text in sorted(found.values(), key=lambda one: one[0])]


def _spell(name: str, action: Action) -> str:
    return f"{action.key} {name}" if action.key else name


def _is_sensible(action: Action, context: RunContext, stage: StageControl) -> bool:
    op = op_named(action.op)
    if stage.loop.refusal(op.name) is not None:
        return False
    try:
        if op.turns_on == ANCHORED:
            stage.anchor.check_stage()
            return stage.anchor.strength is None
        if op.turns_on == FROZEN:
            freezer, arguments = context.prepared.freezer, action.arguments({})
            wanted = freezer.choose(arguments["layers"], embeddings=arguments["embeddings"])
            return bool(set(wanted) - set(freezer.frozen))
    except SfError:
        # The op would be refused for this reason.
        return False
    return op.purpose != GO_BACK or stage.step > 0


def _turns_off_now(op: Op, context: RunContext, stage: StageControl) -> bool:
    if op.turns_off == ANCHORED:
        return stage.anchor.strength is not None
    return op.turns_off == FROZEN and bool(context.prepared.freezer.frozen)
