"""The base of all weight edits: an edit is checked as a whole, then applied layer by layer.

An edit is exact linear algebra on the trainable parameters and their start weights; it needs no
data. It knows no tasks and measures no accuracy.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sf_tui.engine.layout import EMBEDDINGS, HEAD, Layer, ModelLayout
from sf_tui.engine.parts import assign, is_divided, part, sum_parts, whole
from sf_tui.engine.weights import StartWeights
from sf_tui.errors import ModelError, UsageError

# Elements per piece in elementwise operations, to avoid a float32 copy of a whole embedding matrix.
_PIECE = 1 << 22


@dataclass(frozen=True)
class Directions:
    """Number of singular directions that an edit kept, and their total, over some matrices."""

    matrices: int = 0
    kept: int = 0
    of: int = 0

    def __add__(self, other: Directions) -> Directions:
        return Directions(
            self.matrices + other.matrices, self.kept + other.kept, self.of + other.of
        )


@dataclass(frozen=True)
class LayerEdit:
    """The effect of an edit on one layer."""

    name: str
    relative_update_before: float
    """‖W − W₀‖ / ‖W₀‖ before the edit, as drift is measured."""
    relative_update_after: float
    """The same after the edit, computed from the stored weights."""
    directions: Directions
    """Directions of its changed matrices; empty for an edit without directions."""


@dataclass(frozen=True)
class EditReport:
    """The effect of an edit on a model."""

    name: str
    """Name of the edit's op."""
    layers: tuple[LayerEdit, ...]
    """Layers from input to output."""

    @property
    def directions(self) -> Directions:
        """Singular directions kept and in total, over the whole model."""
        return sum((layer.directions for layer in self.layers), Directions())


class Edit(ABC):
    """An edit of a model's weights toward or around its start weights."""

    name: ClassVar[str]
    """Name of its op in profiles and commands."""

    @torch.no_grad()
    def apply(self, layout: ModelLayout, start: StartWeights) -> EditReport:
        """Edit a model in place and report the change of each layer.

        A parameter that doesn't train, or equals its start weights, stays bit-identical. All
        computation is in float32 or wider, whatever the model's dtype; the start weights are first
        cast to the model's dtype, as on loading. The model is changed only after all start weights
        have been read and all values are known to be finite. If the edit still fails, for instance
        because a file disappears, the model must be reloaded.

        Args:
            layout: the model's layers, on any device.
            start: its start weights; at most one layer of them is in memory at a time.

        Raises:
            ModelError: the model, or a start model's directory, can't be used; nothing is changed.
            RunError: the checkpoint with the start weights can't be used; nothing is changed.
        """
        _check_finite(layout)
        start.check_values(layout)
        if layout.adapters is not None:
            return EditReport(self.name, self.edit_adapter(layout, start))
        return EditReport(
            self.name,
            tuple(
                self._apply_to(layer, layout.trainable_in(layer), start) for layer in layout.layers
            ),
        )

    def edit_adapter(self, layout: ModelLayout, start: StartWeights) -> tuple[LayerEdit, ...]:  # noqa: ARG002  for subclasses
        """Edit the adapter of a model in place; its base stays bit-identical.

        Raises:
            UsageError: the edit has no meaning for an adapter; nothing is changed.
        """
        raise UsageError(
            f"{self.name}: not possible on an adapter",
            "use interpolate, or repair with neighbors",
        )

    @abstractmethod
    def edit_parameter(self, parameter: Tensor, start: Tensor, *, in_block: bool) -> Directions:
        """Edit one parameter in place.

        Args:
            parameter: of any shape; differs from its start weights.
            start: the start weights, on the same device, with the same dtype.
            in_block: whether it belongs to a decoder block rather than the embeddings or the head.
        """

    def _apply_to(
        self, layer: Layer, parameters: dict[str, torch.nn.Parameter], start: StartWeights
    ) -> LayerEdit:
        in_block = layer.name not in (EMBEDDINGS, HEAD)
        norm = before = after = 0.0
        directions = Directions()
        for name, stored in start.tensors(layer.name):
            if name not in parameters:
                continue
            # Of divided weights every rank edits the whole: directions belong to whole matrices.
            parameter = whole(parameters[name].detach())
            then = stored.to(parameter.device, parameter.dtype)
            norm += _square(then)
            if torch.equal(parameter, then):
                continue
            before += _square_distance(parameter, then)
            directions += self.edit_parameter(parameter, then, in_block=in_block)
            after += _square_distance(parameter, then)
            if is_divided(parameters[name]):
                assign(parameters[name], parameter)
        size = max(math.sqrt(norm), 1e-12)
        return LayerEdit(layer.name, math.sqrt(before) / size, math.sqrt(after) / size, directions)


def check_share(op: str, name: str, value: float) -> float:
    """Return a share unchanged if it is valid.

    Raises:
        UsageError: it isn't a number from 0 to 1.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise UsageError(f"{op}: {name} = {value!r} is no share", f"{name} = 0 … 1")
    return float(value)


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype for computing with weights of a given dtype."""
    return torch.promote_types(dtype, torch.float32)


def in_pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Yield pieces of a tensor, of bounded size, as writable views."""
    rows = tensor if tensor.ndim else tensor.unsqueeze(0)
    row = max(1, rows[0].numel()) if len(rows) else 1
    yield from torch.split(rows, max(1, _PIECE // row))


def _square(tensor: Tensor) -> float:
    """Return ‖W‖²."""
    pieces = in_pieces(tensor)
    return sum(float(torch.linalg.vector_norm(p.to(wide(p.dtype)))) ** 2 for p in pieces)


def _square_distance(now: Tensor, then: Tensor) -> float:
    """Return ‖W − W₀‖²."""
    total = 0.0
    for piece, start in zip(in_pieces(now), in_pieces(then), strict=True):
        difference = piece.to(wide(piece.dtype)) - start.to(wide(start.dtype))
        total += float(torch.linalg.vector_norm(difference)) ** 2
    return total


def _check_finite(layout: ModelLayout) -> None:
    for layer in layout.layers:
        for name, parameter in layer.parameters.items():
            strange = float(not part(parameter.detach()).isfinite().all())
            if any(sum_parts([strange], parameter)):
                raise ModelError(
                    f"{layer.name}: parameter '{name}' holds values that are not finite",
                    "no edit repairs that: roll back to an earlier checkpoint",
                )
