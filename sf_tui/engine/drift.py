"""How far each layer has moved since its stage began.

The stage's first weights are read from its checkpoint, a layer at a time: a copy in memory would
cost a quarter of what AdamW training takes already.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors import safe_open

from sf_tui.engine.checkpoint import Checkpoint, read_checkpoint
from sf_tui.engine.checkpoint_state import way_on
from sf_tui.engine.freezing import Freezer
from sf_tui.engine.layout import Layer, ModelLayout
from sf_tui.errors import RunError
from sf_tui.vocabulary.event_records import LayerDrift

# Differences are made in pieces of this many elements, so that no copy of a whole embedding
# matrix is ever held.
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
        return [
            LayerDrift(
                layer.name, self._relative_update(layer, start), self._freezer.is_frozen(layer)
            )
            for layer in self._layout.layers
        ]

    @torch.no_grad()
    def _relative_update(self, layer: Layer, checkpoint: Checkpoint) -> float:
        moved = 0.0
        norm = 0.0
        with safe_open(checkpoint.weights_file(layer.name), framework="pt") as stored:
            for name, parameter in layer.parameters.items():
                start = stored.get_tensor(name).flatten()
                now = parameter.detach().flatten()
                for at in range(0, len(start), _PIECE):
                    then = start[at : at + _PIECE].to(now.device, torch.float32)
                    difference = now[at : at + _PIECE].float() - then
                    moved += float(torch.linalg.vector_norm(difference)) ** 2
                    if layer.name not in self._norms:
                        norm += float(torch.linalg.vector_norm(then)) ** 2
        self._norms.setdefault(layer.name, math.sqrt(norm))
        return math.sqrt(moved) / max(self._norms[layer.name], 1e-12)
