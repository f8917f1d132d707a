"""Finds a weight edit by the name of its op, and checks its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sf_tui.errors import UsageError, did_you_mean
from sf_tui.recovery.edits.edit import Edit
from sf_tui.recovery.edits.interpolate import Interpolate
from sf_tui.recovery.edits.matrices import ShiftEdit, SpectralEdit
from sf_tui.vocabulary.ops import edit_names, op_named

_EDITS: dict[str, Callable[..., Edit]] = {
    ShiftEdit.name: ShiftEdit,
    SpectralEdit.name: SpectralEdit,
    Interpolate.name: Interpolate,
}

EDIT_OPS = edit_names()
"""Names of all ops that edit weights without data."""


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
    make, takes = _EDITS[op], op_named(op).argument_names
    for name in arguments:
        if name not in takes:
            raise UsageError(
                f"{op} takes no argument '{name}'",
                f"it takes: {', '.join(takes)}" if takes else "it takes none",
            )
    return make(**{name: value for name, value in arguments.items() if value is not None})
