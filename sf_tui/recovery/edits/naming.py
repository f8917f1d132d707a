"""Finds a weight edit by the name of its op, and checks its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sf_tui.errors import UsageError, did_you_mean
from sf_tui.recovery.edits.edit import Edit
from sf_tui.recovery.edits.interpolate import Interpolate
from sf_tui.recovery.edits.matrices import ShiftEdit, SpectralEdit

_EDITS: dict[str, tuple[Callable[..., Edit], frozenset[str]]] = {
    ShiftEdit.name: (ShiftEdit, frozenset({"alpha"})),
    SpectralEdit.name: (SpectralEdit, frozenset()),
    Interpolate.name: (Interpolate, frozenset({"keep"})),
}

EDIT_OPS = tuple(_EDITS)
"""Names of the ops that edit weights without data."""


def edit_named(op: str, arguments: Mapping[str, Any]) -> Edit:
    """Return the edit of an op.

    Args:
        op: one of `EDIT_OPS`.
        arguments: by name; one that is None or absent takes its default.

    Raises:
        UsageError: there is no such op, it doesn't take the argument, or not that value.
    """
    if op not in _EDITS:
        raise UsageError(f"there is no edit '{op}'", did_you_mean(op, EDIT_OPS, "there are"))
    make, takes = _EDITS[op]
    for name in arguments:
        if name not in takes:
            raise UsageError(
                f"{op} takes no argument '{name}'",
                f"it takes: {', '.join(sorted(takes))}" if takes else "it takes none",
            )
    return make(**{name: value for name, value in arguments.items() if value is not None})
