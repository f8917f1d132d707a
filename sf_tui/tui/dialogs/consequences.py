"""What an action that changes weights will do, in sentences for its confirmation.

The op's own consequences come from its row; here are those that depend on the state of the run: its
frozen layers and its anchor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sf_tui.tui.actions import Action, RunActions, shown_key
from sf_tui.tui.operation import how_long
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.consequences import frozen_are_repaired, frozen_stay
from sf_tui.vocabulary.ops import (
    ANCHORED,
    FROZEN,
    GO_BACK,
    OPS,
    PROTECT,
    op_named,
    op_that_turns_off,
    ops_for,
)


def consequences(action: Action, view: ViewState) -> list[str]:
    """Return what an action does to the run's weights and how to undo it; empty for most ops."""
    op, actions = op_named(action.op), view.actions
    if op.consequence is None:
        return []
    arguments = _arguments(action, actions)
    sentences = [*op.consequence(arguments), *_frozen(arguments, view), *_then(action, view)]
    long = how_long(view, action)
    if long and view.newest.expected_seconds(action.op) is not None:
        sentences.insert(1, f"{long[0].upper()}{long[1:]}; esc ends it and leaves all as it was.")
    if any(name in view.refused for name in ops_for(GO_BACK)):
        return [*sentences, "It can't be undone here: this training can't go back."]
    back = _with_key("rollback", ops_for(GO_BACK), actions)
    return [*sentences, f"To undo it, {back} goes back to a checkpoint from before it."]


def what_yes_does(action: Action, view: ViewState) -> str:
    """Return what confirming an action does beyond sending it; empty for nothing more."""
    return f"{action.label}, then hold with an anchor" if _anchors(action, view) else ""


def _arguments(action: Action, actions: RunActions) -> dict[str, Any]:
    """Return an action's arguments with the profile's values for those that it leaves open."""
    op = op_named(action.op)
    settings = actions.recover if op.settings == "recover" else {}
    found = {**op.defaults, **settings}
    return found | {name: value for name, value in action.arguments.items() if value is not None}


def _anchors(action: Action, view: ViewState) -> bool:
    states = op_named(action.op).states_on(_arguments(action, view.actions))
    return ANCHORED in states and view.anchor is None


def _then(action: Action, view: ViewState) -> list[str]:
    """Return how training goes on after an op that can anchor the stage."""
    if not op_named(action.op).also_turns_on:
        return []
    if view.anchor is not None:
        return ["Then training goes on, held by the anchor as before."]
    if _anchors(action, view):
        release = _with_key("unanchor", [op_that_turns_off(ANCHORED)], view.actions)
        return [
            f"Then an anchor of strength {view.actions.anchor_strength:g} holds the stage, if its "
            f"task can be anchored; {release} releases it."
        ]
    anchor = _with_key(
        "anchor", [op for op in ops_for(PROTECT) if OPS[op].turns_on == ANCHORED], view.actions
    )
    return [
        f"Then training goes on without an anchor and may lose the old task again; {anchor} "
        "holds it."
    ]


def _frozen(arguments: Mapping[str, Any], view: ViewState) -> list[str]:
    """Return what a repair does with the frozen layers."""
    if "keep_frozen" not in arguments or view.stage is None:
        return []
    frozen = [layer for layer in view.stage.drift.at(None) if layer.frozen]
    moved = [layer for layer in frozen if layer.relative_update]
    if not moved:
        return []
    if arguments["keep_frozen"]:
        release = _with_key("unfreeze", [op_that_turns_off(FROZEN)], view.actions)
        return [f"{frozen_stay(len(frozen), release)}."]
    return [f"{frozen_are_repaired(len(moved))}."]


def _with_key(word: str, ops: Sequence[str], actions: RunActions) -> str:
    """Return what the profile calls the first action of some ops, with its key."""
    action = next(filter(None, map(actions.of_op, ops)), None)
    return f"{word} ({shown_key(action.key)})" if action is not None and action.key else word
