"""Interpolation: moves every parameter part of the way back to its start weights."""

from __future__ import annotations

import torch
from torch import Tensor

from sf_tui.recovery.edits.edit import Directions, Edit, check_share, in_pieces, wide


class Interpolate(Edit):
    """Keep a share of the change since the start: W = W₀ + keep · (W − W₀).

    Every parameter that trains is moved, embeddings, norms and biases too.

    Old-data access: none (needs the weights from before the stage).
    Cost: one pass over the weights.
    Source: WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903), towards the stage's start.

    Args:
        keep: from 0, which gives the start weights bit for bit, to 1, which changes nothing.

    Raises:
        UsageError: keep is outside that range.
    """

    name = "interpolate"

    def __init__(self, keep: float = 0.7) -> None:
        self.keep = check_share(self.name, "keep", keep)

    def edit_parameter(self, parameter: Tensor, start: Tensor, *, in_block: bool) -> Directions:  # noqa: ARG002  the ABC's
        """Move a parameter in place; see `Edit.edit_parameter`."""
        if self.keep == 0:
            parameter.copy_(start)
        elif self.keep < 1:
            for now, then in zip(in_pieces(parameter), in_pieces(start), strict=True):
                precise = wide(now.dtype)
                now.copy_(torch.lerp(then.to(precise), now.to(precise), self.keep))
        return Directions()
