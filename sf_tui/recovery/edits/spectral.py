"""Spectral-edit: keep of each matrix's change only what stands out of its noise.

It knows nothing of where the start weights come from.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sf_tui.recovery.edits.matrices import MatrixEdit


class SpectralEdit(MatrixEdit):
    """Keep of each matrix's change the singular directions above the Donoho–Gavish threshold.

    Every matrix of the model is edited, embeddings and head too, as in the method's own code;
    norms, biases and other vectors keep their change. An embedding whose tokens were seldom seen
    changed in a few rows only, so that its change has no bulk and is kept whole.

    Old-data access: none (needs the weights from before the stage).
    Cost: one eigenvalue decomposition for each matrix, as wide as its shorter side, once.
    Source: DG-Hard, arXiv 2605.20296; the threshold from Gavish and Donoho 2014, arXiv 1305.5870.
    """

    name = "spectral-edit"
    blocks_only = False

    def shares_kept(self, singular: Tensor, shape: torch.Size) -> Tensor:
        """Return 1 for the directions above the threshold and 0 for the others."""
        median = float(singular.quantile(0.5))
        rounding = torch.finfo(singular.dtype).eps * len(singular)
        if median <= math.sqrt(rounding) * float(singular[0]):
            # Half of the directions are empty: there is no bulk, and nothing to remove.
            return torch.ones_like(singular)
        threshold = threshold_over_median(shape) * median
        return (singular > threshold).to(singular.dtype)


def threshold_over_median(shape: torch.Size) -> float:
    """Return by how much the threshold lies above the median singular value.

    That is ω(β) for noise of unknown level, by the cubic that its authors give; it is within 0.02
    of the exact value for every β.

    Args:
        shape: rows and columns; β is the smaller over the larger.
    """
    beta = min(shape) / max(shape)
    return 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43
