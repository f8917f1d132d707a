"""One `[train]` table laid over another, as plain tables.

Knows which keys stand in for each other (steps and epochs) and that a freeze table belongs to
strategy freeze. Checks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INSTEAD_OF: dict[str, str] = {
    "steps": "epochs",
    "epochs": "steps",
    "above": "below",
    "below": "above",
}
"""Keys of which only one can be given: laying one over a table takes the other away."""


def overlay_train(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `own` laid over it; neither is changed."""
    merged = {**base, **own}
    for key, other in INSTEAD_OF.items():
        if key in own and other not in own:
            merged.pop(other, None)
    inherited, given = base.get("freeze"), own.get("freeze")
    if isinstance(inherited, Mapping) and isinstance(given, Mapping):
        merged["freeze"] = {**inherited, **given}
    elif given is None and own.get("strategy", "freeze") != "freeze":
        # The stage goes back to plain tuning; what another strategy froze is none of its business.
        merged.pop("freeze", None)
    return merged
