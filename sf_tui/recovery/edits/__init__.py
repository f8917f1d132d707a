"""Repairs of a model by exact linear algebra on its weights and its start weights, without data."""

from sf_tui.recovery.edits.edit import (
    EDIT_OPS,
    Directions,
    Edit,
    EditReport,
    Interpolate,
    LayerEdit,
    edit_named,
)
from sf_tui.recovery.edits.matrices import ShiftEdit, SpectralEdit

__all__ = [
    "EDIT_OPS",
    "Directions",
    "Edit",
    "EditReport",
    "Interpolate",
    "LayerEdit",
    "ShiftEdit",
    "SpectralEdit",
    "edit_named",
]
