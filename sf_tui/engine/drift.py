"""Measures how far each layer has moved since its stage began.

The stage's first weights are read from its checkpoint, one tensor at a time: a copy in memory would
add a quarter to what AdamW training needs. Parameters that don't train are left out.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from sf_tui.engine.checkpoint import checkpoint_weights, read_checkpoint
from sf_tui.engine.checkpoint_state import way_on
from sf_tui.engine.freezing import Freezer
from sf_tui.engine.layout import Layer, ModelLayout
from sf_tui.engine.weights import WeightStore
from sf_tui.errors import RunError
from sf_tui.vocabulary.event_records import LayerDrift

# Differences are computed in pieces of this many elements, to avoid copying an embedding matrix.
_PIECE = 1 << 22


class DriftMeter:
    """Measures ‖W − W₀‖ / ‖W₀‖ of every layer, W₀ being the stage's first weights."""

    def __init__(self, layout: ModelLayout, freezer: Freezer, start: Path) -> None:
        self._layout = layout
        self._freezer = freezer
        self._start = start
        self._norms: dict[str, float] = {}

    def measure(self) -> list[LayerDrift]:
        """Return the drift of every layer, from the input to the output.

        Raises:
            RunError: the stage's first checkpoint is gone or damaged.
        """
        start = read_checkpoint(self._start)
        if start is None:
            raise RunError(
                f"{self._start}: the stage's first checkpoint is gone", way_on(self._start)
            )
        store = checkpoint_weights(start, self._layout)
        return [
            LayerDrift(
                layer.name, self._relative_update(layer, store), self._freezer.is_frozen(layer)
            )
            for layer in self._layout.layers
        ]

    @torch.no_grad()
    def _relative_update(self, layer: Layer, store: WeightStore) -> float:
        moved = 0.0
        norm = 0.0
        for name, tensor in store.tensors(layer.name):
            if name not in self._layout.trainable:
                continue
            start = tensor.flatten()
            now = layer.parameters[name].detach().flatten()
            for at in range(0, len(start), _PIECE):
                then = start[at : at + _PIECE].to(now.device, torch.float32)
                difference = now[at : at + _PIECE].float() - then
                moved += float(torch.linalg.vector_norm(difference)) ** 2
                if layer.name not in self._norms:
                    norm += float(torch.linalg.vector_norm(then)) ** 2
        self._norms.setdefault(layer.name, math.sqrt(norm))
        return math.sqrt(moved) / max(self._norms[layer.name], 1e-12)
