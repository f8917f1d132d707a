"""Shift-edit: take the top singular direction out of each block matrix's change.

It knows nothing of where the start weights come from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sf_tui.recovery.edits.arguments import check_share
from sf_tui.recovery.edits.matrices import MatrixEdit


class ShiftEdit(MatrixEdit):
    """Remove the common shift that the stage gave to every input: the change's top direction.

    Of D = W − W₀ = Σ σᵢ uᵢ vᵢᵀ it removes α σ₁ u₁ v₁ᵀ. Only matrices inside decoder blocks are
    edited; embeddings, head, norms and biases stay bit-identical.

    Old-data access: none (needs the weights from before the stage).
    Cost: one eigenvalue decomposition for each block matrix, as wide as its shorter side, once.
    Source: Palit et al. 2026, "When Forgetting Is Not Catastrophic".

    Args:
        alpha: how much of that direction is removed, from 0, nothing, to 1, all of it.

    Raises:
        UsageError: alpha lies outside of that.
    """

    name = "shift-edit"
    blocks_only = True

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = check_share(self.name, "alpha", alpha)

    def shares_kept(self, singular: Tensor, shape: torch.Size) -> Tensor:  # noqa: ARG002  the ABC's
        """Return 1 − α for the first direction and 1 for every other."""
        kept = torch.ones_like(singular)
        kept[0] = 1 - self.alpha
        return kept
