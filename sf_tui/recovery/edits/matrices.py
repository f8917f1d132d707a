"""Edits that take each matrix's change apart into its singular directions.

A parameter of two dimensions is a matrix; one of three, such as experts that are fused into one
tensor, is a stack of matrices, each with directions of its own. What has a single row or column is
a vector in disguise (a shared expert's gate, a depthwise kernel): its change is one direction and
nothing would be left of it, so it is passed over like biases and norms.

The directions come from the change's Gram matrix in double precision, read in pieces. That resolves
singular values to 1e-8 of the largest, where a decomposition in single precision ends at 1e-7, and
holds no copy of an embedding matrix. On one core 135 M parameters take 15 seconds.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from sf_tui.recovery.edits.edit import Directions, Edit, in_pieces


class MatrixEdit(Edit):
    """An edit that scales the singular directions of each matrix's change."""

    blocks_only: ClassVar[bool]
    """Whether matrices of the embeddings and the head are passed over."""

    @abstractmethod
    def shares_kept(self, singular: Tensor, shape: torch.Size) -> Tensor:
        """Return how much of each singular direction of a change is kept.

        Args:
            singular: (directions,) float64 singular values, the largest first and not 0.
            shape: the matrix's rows and columns, in either order.

        Returns:
            (directions,) from 0, removed, to 1, kept as it is.
        """

    def edit_parameter(self, parameter: Tensor, start: Tensor, *, in_block: bool) -> Directions:
        """Edit each matrix of a parameter in place; see `Edit.edit_parameter`."""
        directions = Directions()
        if in_block or not self.blocks_only:
            for now, then in zip(matrices_of(parameter), matrices_of(start), strict=True):
                directions += self._edit_matrix(now, then)
        return directions

    def _edit_matrix(self, now: Tensor, then: Tensor) -> Directions:
        # An expert that no token was sent to.
        if torch.equal(now, then):
            return Directions()
        if now.shape[0] < now.shape[1]:
            now, then = now.T, then.T
        singular, axes = decompose_change(now, then)
        kept = self.shares_kept(singular, now.shape)
        count = int((kept > 0).sum())
        if not count:
            # Exactly the start weights, the sign of a zero included.
            now.copy_(then)
        elif bool((kept < 1).any()):
            _keep_of_change(now, then, (axes * kept) @ axes.T)
        return Directions(1, count, len(kept))


def matrices_of(tensor: Tensor) -> Iterator[Tensor]:
    """Give the matrices in a parameter, as views; none where it isn't one and isn't a stack."""
    if tensor.ndim in (2, 3) and min(tensor.shape[-2:]) > 1:
        yield from tensor.unbind() if tensor.ndim == 3 else (tensor,)


def decompose_change(now: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
    """Return the singular values of a matrix's change and its directions on the shorter side.

    Args:
        now: (rows, columns), at least as many rows as columns.
        then: the same before the change.

    Returns:
        (columns,) float64 singular values from the largest; (columns, columns) float64, in whose
        columns stand the right singular vectors in the same order.
    """
    columns = now.shape[1]
    gram = torch.zeros(columns, columns, dtype=torch.float64, device=now.device)
    for piece, start in zip(in_pieces(now), in_pieces(then), strict=True):
        change = piece.double() - start.double()
        gram.addmm_(change.T, change)
    squares, axes = torch.linalg.eigh(gram)
    return squares.clamp(min=0).sqrt().flip(0), axes.flip(1)


def _keep_of_change(now: Tensor, then: Tensor, kept: Tensor) -> None:
    """Set a matrix to its start and its change times `kept`, (columns, columns)."""
    for piece, start in zip(in_pieces(now), in_pieces(then), strict=True):
        first = start.double()
        piece.copy_(first + (piece.double() - first) @ kept)
