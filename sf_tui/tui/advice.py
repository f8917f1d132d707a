"""Which actions the console suggests in a run's state; after the run's end, which command.

Knows the drop, the danger window, the verdict and the active protections; draws nothing.
"""

from __future__ import annotations

from sf_tui.tui.actions import Action
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.ops import (
    ANCHORED,
    FROZEN,
    GO_BACK,
    OPS,
    PROTECT,
    RECOVER,
    TEST,
    ops_for,
)
from sf_tui.vocabulary.verdicts import is_recoverable

MOST_SUGGESTED = 2
"""Most actions suggested at a time; more would be no suggestion."""


def suggested_actions(view: ViewState) -> list[Action]:
    """Return the suggested actions, all with a key; none while the drop is below the alert."""
    drop = view.drop
    if drop is None or view.place is not None or view.read_only:
        return []
    if drop < view.actions.alert_drop or view.live.finished is not None:
        return []
    wanted, last_resorts = _ranked_ops(view)
    return _usable(view, wanted)[:MOST_SUGGESTED] or _usable(view, last_resorts)[:1]


def closing_command(view: ViewState) -> str:
    """Return the next command for a run that ended with a drop above the alert; else empty."""
    drop, run = view.drop, view.run.id
    if view.live.finished is None or drop is None or drop < view.actions.alert_drop:
        return ""
    if is_recoverable(view.verdict):
        return f"sf recover {run} --out DIR"
    return "" if view.verdict else f"sf diagnose {run}"


def _ranked_ops(view: ViewState) -> tuple[list[str], list[str]]:
    """Return suitable ops, best first, and the ops to suggest if none of those is available."""
    on = {FROZEN: bool(view.frozen_layers), ANCHORED: bool(view.anchor)}
    protecting = [op for op in ops_for(PROTECT) if not on.get(OPS[op].turns_on)]
    recovering, going_back = ops_for(RECOVER), ops_for(GO_BACK)
    if view.verdict == "real":
        # These weights no longer contain the knowledge; recovering can't work.
        return [*going_back, *protecting], []
    if view.verdict == "spurious":
        # Recovered knowledge is lost again unless the next steps are protected.
        return [*recovering, *reversed(protecting)], going_back
    if view.in_window:
        return protecting, [*recovering, *going_back]
    return recovering if view.verdict else [*recovering, *ops_for(TEST)], going_back


def _usable(view: ViewState, ops: list[str]) -> list[Action]:
    """Return the actions of some ops that have a key and are not already requested."""
    found = []
    for op in ops:
        action = view.actions.of_op(op)
        newest = view.live.activity.newest_command(action.name) if action else None
        asked_for = newest is not None and newest.is_under_way
        if action is not None and action.key and not asked_for:
            found.append(action)
    return found
