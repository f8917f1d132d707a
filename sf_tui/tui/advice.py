"""What the console suggests against a drop: which of the profile's actions, the best first.

Knows the drop, the danger window, the verdict and what is already held; sends nothing.
"""

from __future__ import annotations

from sf_tui.tui.actions import Action
from sf_tui.tui.scene import Scene
from sf_tui.vocabulary.verdicts import is_recoverable

MOST = 2
"""Actions suggested at a time; who must choose among more has not been advised."""


def suggested_actions(scene: Scene) -> list[Action]:
    """Return the keyed actions to take now; none while the drop is below the alert."""
    drop = scene.drop
    if drop is None or scene.place is not None or scene.read_only:
        return []
    if drop < scene.actions.alert_drop or scene.record.history.finished is not None:
        return []
    wanted, last_resorts = _fitting_ops(scene)
    return _usable(scene, wanted)[:MOST] or _usable(scene, last_resorts)[:1]


def closing_command(scene: Scene) -> str:
    """Return the command that goes on from a run that ended beyond the alert; else empty."""
    drop, run = scene.drop, scene.run.id
    if scene.record.history.finished is None or drop is None or drop < scene.actions.alert_drop:
        return ""
    if is_recoverable(scene.verdict):
        return f"sf recover {run} --out DIR"
    return "" if scene.verdict else f"sf diagnose {run}"


def _fitting_ops(scene: Scene) -> tuple[list[str], list[str]]:
    """Return ops from the most to the least fitting, and those for when none of them is there."""
    protecting = [] if scene.frozen_layers else ["freeze"]
    protecting += [] if scene.anchor else ["anchor"]
    if scene.verdict == "real":
        # Nothing in these weights can be brought back to the surface.
        return ["rollback", *protecting], []
    if scene.verdict == "spurious":
        # What is recovered now is lost again unless the next steps are held.
        return ["recover", *reversed(protecting)], ["rollback"]
    if scene.in_window:
        return protecting, ["recover", "rollback"]
    return ["recover"] if scene.verdict else ["recover", "diagnose"], ["rollback"]


def _usable(scene: Scene, ops: list[str]) -> list[Action]:
    """Return the actions of some ops that have a key and have not just been asked for."""
    found = []
    for op in ops:
        action = scene.actions.of_op(op)
        newest = scene.record.notables.newest_command(action.name) if action else None
        asked_for = newest is not None and newest.is_under_way
        if action is not None and action.key and not asked_for:
            found.append(action)
    return found
