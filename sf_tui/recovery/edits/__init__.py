"""Repairs of a model by exact linear algebra on its weights and its start weights, without data."""

from sf_tui.recovery.edits.edit import Directions, Edit, EditReport, LayerEdit
from sf_tui.recovery.edits.matrices import (
    EDIT_OPS,
    Interpolate,
    ShiftEdit,
    SpectralEdit,
    edit_named,
)

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
