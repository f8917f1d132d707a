"""A model's weights put aside, so that something can be tried on them and undone bit for bit."""

from __future__ import annotations

import torch

from sf_tui.engine.layout import ModelLayout


class Snapshot:
    """The weights of a model as they stood when it was taken, in main memory."""

    def __init__(self, layout: ModelLayout) -> None:
        self._layout = layout
        self._weights = [
            {name: p.detach().to("cpu", copy=True) for name, p in layer.parameters.items()}
            for layer in layout.layers
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Put the weights back, bit for bit."""
        for layer, weights in zip(self._layout.layers, self._weights, strict=True):
            for name, parameter in layer.parameters.items():
                parameter.copy_(weights[name])
