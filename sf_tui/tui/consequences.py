"""What an action that changes the weights will do, in sentences, for whoever must confirm it.

Knows the ops and their arguments; where an action doesn't say how many steps and examples, the
profile's [recover] does.
"""

from __future__ import annotations

from typing import Any

from sf_tui.tui.actions import Action, RunActions
from sf_tui.tui.keys import shown_key

_EDITS = {
    "shift-edit": "takes the strongest common direction out of every block matrix's change since "
    "the stage began (alpha {alpha})",
    "spectral-edit": "keeps of every block matrix's change since the stage began only the "
    "directions that rise above noise",
    "interpolate": "moves every weight back towards the stage's start and keeps {keep} of its "
    "change",
}
_DEFAULTS = {"alpha": 1.0, "keep": 0.7}


def consequences(action: Action, actions: RunActions) -> list[str]:
    """Return what will happen to the run's weights and how to undo it; empty for other ops."""
    if action.op == "recover":
        said = [
            _recover(actions.repair | action.arguments),
            "Every task is probed, then tuning goes on from there.",
        ]
    elif action.op in _EDITS:
        does = _EDITS[action.op].format(**(_DEFAULTS | action.arguments))
        said = [
            f"This {does}. It needs no data and takes no step.",
            "Every task is probed before and after, then tuning goes on from there.",
        ]
    else:
        return []
    rollback = actions.of_op("rollback")
    key = f" ({shown_key(rollback.key)})" if rollback is not None and rollback.key else ""
    return [*said, f"To undo it, rollback{key} goes back to a checkpoint from before it."]


def _recover(arguments: dict[str, Any]) -> str:
    steps, examples = arguments.get("steps"), arguments.get("examples")
    long = f"{steps} steps at most" if steps is not None else "as many steps as [recover] says"
    if examples is None:
        old = "old examples as [recover] says"
    else:
        old = f"{examples or 'no'} old example{'' if examples == 1 else 's'}"
    return (
        "Tuning waits while the run's own weights are repaired: on rows of the new task, "
        f"neighbor prompts and {old}, {long}. The best step is kept."
    )
