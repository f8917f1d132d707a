"""The weight edits by name: shift and spectral (singular directions), and interpolation.

A 2-D parameter is a matrix. A 3-D parameter, such as experts fused into one tensor, is a stack of
matrices, each with its own directions. A matrix with a single row or column is really a vector (a
shared expert's gate, a depthwise kernel): its change is a single direction, and removing it would
leave nothing, so it is skipped like biases and norms.

The directions are computed from the change's Gram matrix in double precision, in pieces. This
resolves singular values to 1e-8 of the largest (single precision: 1e-7) and needs no copy of an
embedding matrix. 135 M parameters take 15 seconds on one core.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.weights import StartWeights
from sf_tui.errors import UsageError, did_you_mean
from sf_tui.recovery.edits.adapter import edit_modules, interpolate, remove_top_direction
from sf_tui.recovery.edits.edit import (
    Directions,
    Edit,
    LayerEdit,
    check_share,
    in_pieces,
    wide,
)
from sf_tui.vocabulary.ops import edit_names, op_named


class MatrixEdit(Edit):
    """An edit that scales the singular directions of each matrix's change."""

    blocks_only: ClassVar[bool]
    """Whether to skip matrices of the embeddings and the head."""

    @abstractmethod
    def shares_kept(self, singular: Tensor, shape: torch.Size) -> Tensor:
        """Return the share to keep of each singular direction of a change.

        Args:
            singular: (directions,) float64 singular values, descending; the first is not 0.
            shape: the matrix's rows and columns, in either order.

        Returns:
            (directions,) shares from 0 (removed) to 1 (unchanged).
        """

    def edit_parameter(self, parameter: Tensor, start: Tensor, *, in_block: bool) -> Directions:
        """Edit each matrix of a parameter in place; see `Edit.edit_parameter`."""
        directions = Directions()
        if in_block or not self.blocks_only:
            for now, then in zip(matrices_of(parameter), matrices_of(start), strict=True):
                directions += self._edit_matrix(now, then)
        return directions

    def _edit_matrix(self, now: Tensor, then: Tensor) -> Directions:
        # Unchanged, such as an expert to which no token was routed.
        if torch.equal(now, then):
            return Directions()
        if now.shape[0] < now.shape[1]:
            now, then = now.T, then.T
        singular, axes = decompose_change(now, then)
        kept = self.shares_kept(singular, now.shape)
        count = int((kept > 0).sum())
        if not count:
            # Restore the start weights exactly, including the sign of zeros.
            now.copy_(then)
        elif bool((kept < 1).any()):
            _keep_of_change(now, then, (axes * kept) @ axes.T)
        return Directions(1, count, len(kept))


class ShiftEdit(MatrixEdit):
    """Remove the top direction of the change: the shift that the stage gave to all inputs.

    From D = W − W₀ = Σ σᵢ uᵢ vᵢᵀ, it removes α σ₁ u₁ v₁ᵀ. Only matrices inside decoder blocks are
    edited; embeddings, head, norms and biases stay bit-identical.

    Old-data access: none (needs the weights from before the stage).
    Cost: one eigendecomposition per block matrix, with the size of its shorter side.
    Source: Palit et al. 2026, "When Forgetting Is Not Catastrophic".

    Args:
        alpha: share of that direction to remove, from 0 to 1.

    Raises:
        UsageError: alpha is outside that range.
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

    def edit_adapter(self, layout: ModelLayout, start: StartWeights) -> tuple[LayerEdit, ...]:
        """Remove the top direction of what a LoRA adapter adds to each matrix.

        Raises:
            UsageError: the adapter changed something at the start already, or is no plain LoRA.
        """
        edited = _layer_edits(
            edit_modules(
                layout,
                start,
                lambda module, name, then: remove_top_direction(module, name, then, self.alpha),
            )
        )
        if not any(layer.directions.of for layer in edited):
            raise UsageError(
                f"{self.name}: only what a plain LoRA adapter added to its base has a top "
                "direction of its rank: this one is of another kind, or began as a change",
                "use interpolate, or repair with neighbors",
            )
        return edited


class SpectralEdit(MatrixEdit):
    """Keep only the singular directions above the Donoho–Gavish threshold in each matrix's change.

    All matrices of the model are edited, including embeddings and head, as in the method's own
    code; norms, biases and other vectors keep their change. If few tokens were seen, only a few
    rows of the embedding changed; such a change has no bulk and is kept entirely.

    Old-data access: none (needs the weights from before the stage).
    Cost: one eigendecomposition per matrix, with the size of its shorter side.
    Source: DG-Hard, arXiv 2605.20296; the threshold from Gavish and Donoho 2014, arXiv 1305.5870.
    """

    name = "spectral-edit"
    blocks_only = False

    def shares_kept(self, singular: Tensor, shape: torch.Size) -> Tensor:
        """Return 1 for the directions above the threshold and 0 for the others."""
        median = float(singular.quantile(0.5))
        rounding = torch.finfo(singular.dtype).eps * len(singular)
        if median <= math.sqrt(rounding) * float(singular[0]):
            # Half of the directions are numerically zero: there is no bulk to remove.
            return torch.ones_like(singular)
        threshold = threshold_over_median(shape) * median
        return (singular > threshold).to(singular.dtype)

    def edit_adapter(self, layout: ModelLayout, start: StartWeights) -> tuple[LayerEdit, ...]:  # noqa: ARG002  refused
        """Refuse an adapter: its change has a low rank, and so no bulk of small directions.

        Raises:
            UsageError: always; nothing is changed.
        """
        raise UsageError(
            f"{self.name}: an adapter's change has as few directions as its rank, so there is no "
            "bulk of small ones to remove",
            "use interpolate or shift-edit, or repair with neighbors",
        )


def threshold_over_median(shape: torch.Size) -> float:
    """Return the ratio of the threshold to the median singular value.

    This is ω(β) for unknown noise level, in its authors' cubic approximation, which is within 0.02
    of the exact value for every β.

    Args:
        shape: rows and columns; β is the smaller divided by the larger.
    """
    beta = min(shape) / max(shape)
    return 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43


def matrices_of(tensor: Tensor) -> Iterator[Tensor]:
    """Yield views of a parameter's matrices; none if it is neither a matrix nor a stack."""
    if tensor.ndim in (2, 3) and min(tensor.shape[-2:]) > 1:
        yield from tensor.unbind() if tensor.ndim == 3 else (tensor,)


def decompose_change(now: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
    """Return the singular values of a matrix's change, and its directions on the shorter side.

    Args:
        now: (rows, columns), at least as many rows as columns.
        then: the matrix before the change.

    Returns:
        (columns,) float64 singular values, descending; (columns, columns) float64 right singular
        vectors as columns, in the same order.
    """
    columns = now.shape[1]
    gram = torch.zeros(columns, columns, dtype=torch.float64, device=now.device)
    for piece, start in zip(in_pieces(now), in_pieces(then), strict=True):
        change = piece.double() - start.double()
        gram.addmm_(change.T, change)
    squares, axes = torch.linalg.eigh(gram)
    return squares.clamp(min=0).sqrt().flip(0), axes.flip(1)


def _layer_edits(
    found: list[tuple[str, float, float, int, int, int]],
) -> tuple[LayerEdit, ...]:
    return tuple(
        LayerEdit(name, before, after, Directions(matrices, kept, of))
        for name, before, after, matrices, kept, of in found
    )


def _keep_of_change(now: Tensor, then: Tensor, kept: Tensor) -> None:
    """Set a matrix to `then` + (`now` − `then`) @ `kept`; `kept` is (columns, columns)."""
    for piece, start in zip(in_pieces(now), in_pieces(then), strict=True):
        first = start.double()
        piece.copy_(first + (piece.double() - first) @ kept)


class Interpolate(Edit):
    """Keep a share of the change since the start: W = W₀ + keep · (W − W₀).

    All trainable parameters are interpolated, including embeddings, norms and biases.

    Old-data access: none (needs the weights from before the stage).
    Cost: one pass over the weights.
    Source: WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903), toward the stage's start weights.

    Args:
        keep: share from 0 (the start weights, bit for bit) to 1 (no change).

    Raises:
        UsageError: keep is outside that range.
    """

    name = "interpolate"

    def __init__(self, keep: float = 0.7) -> None:
        self.keep = check_share(self.name, "keep", keep)

    def edit_adapter(self, layout: ModelLayout, start: StartWeights) -> tuple[LayerEdit, ...]:
        """Scale what the adapter changed since the start."""
        return _layer_edits(
            edit_modules(
                layout,
                start,
                lambda module, name, then: interpolate(module, name, then, self.keep),
            )
        )

    def edit_parameter(self, parameter: Tensor, start: Tensor, *, in_block: bool) -> Directions:  # noqa: ARG002  the ABC's
        """Interpolate a parameter in place; see `Edit.edit_parameter`."""
        if self.keep == 0:
            parameter.copy_(start)
        elif self.keep < 1:
            for now, then in zip(in_pieces(parameter), in_pieces(start), strict=True):
                precise = wide(now.dtype)
                now.copy_(torch.lerp(then.to(precise), now.to(precise), self.keep))
        return Directions()


_EDITS: dict[str, Callable[..., Edit]] = {
    ShiftEdit.name: ShiftEdit,
    SpectralEdit.name: SpectralEdit,
    Interpolate.name: Interpolate,
}

EDIT_OPS = edit_names()
"""Names of the ops that edit weights without data."""


def edit_named(op: str, arguments: Mapping[str, Any]) -> Edit:
    """Return the edit of an op.

    Args:
        op: one of `EDIT_OPS`.
        arguments: by name; None or a missing argument selects the default.

    Raises:
        UsageError: the op is unknown, or an argument is unknown or invalid.
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
