"""What the console suggests against a drop: which of the profile's actions, the best first.

Knows the drop, the danger window, the verdict and what is already held; sends nothing.
"""

from __future__ import annotations

from sf_tui.tui.actions import Action
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.verdicts import is_recoverable

MOST = 2
"""Actions suggested at a time; who must choose among more has not been advised."""


def suggested_actions(view: ViewState) -> list[Action]:
    """Return the keyed actions to take now; none while the drop is below the alert."""
    drop = view.drop
    if drop is None or view.place is not None or view.read_only:
        return []
    if drop < view.actions.alert_drop or view.live.finished is not None:
        return []
    wanted, last_resorts = _fitting_ops(view)
    return _usable(view, wanted)[:MOST] or _usable(view, last_resorts)[:1]


def closing_command(view: ViewState) -> str:
    """Return the command that goes on from a run that ended beyond the alert; else empty."""
    drop, run = view.drop, view.run.id
    if view.live.finished is None or drop is None or drop < view.actions.alert_drop:
        return ""
    if is_recoverable(view.verdict):
        return f"sf recover {run} --out DIR"
    return "" if view.verdict else f"sf diagnose {run}"


def _fitting_ops(view: ViewState) -> tuple[list[str], list[str]]:
    """Return ops from the most to the least fitting, and those for when none of them is there."""
    protecting = [] if view.frozen_layers else ["freeze"]
    protecting += [] if view.anchor else ["anchor"]
    if view.verdict == "real":
        # Nothing in these weights can be brought back to the surface.
        return ["rollback", *protecting], []
    if view.verdict == "spurious":
        # What is recovered now is lost again unless the next steps are held.
        return ["recover", *reversed(protecting)], ["rollback"]
    if view.in_window:
        return protecting, ["recover", "rollback"]
    return ["recover"] if view.verdict else ["recover", "diagnose"], ["rollback"]


def _usable(view: ViewState, ops: list[str]) -> list[Action]:
    """Return the actions of some ops that have a key and have not just been asked for."""
    found = []
    for op in ops:
        action = view.actions.of_op(op)
        newest = view.live.activity.newest_command(action.name) if action else None
        asked_for = newest is not None and newest.is_under_way
        if action is not None and action.key and not asked_for:
            found.append(action)
    return found
