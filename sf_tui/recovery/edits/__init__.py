"""Model repairs without data, by exact linear algebra on the weights and the start weights."""

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
