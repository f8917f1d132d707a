"""A model given away for trials and taken back as it was; its start weights put into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.snapshot import Snapshot
from sf_tui.recovery.edits.start_weights import StartWeights


@torch.no_grad()
def load_start(layout: ModelLayout, start: StartWeights) -> None:
    """Put the start weights into a model, a layer at a time."""
    start.check(layout)
    for layer in layout.layers:
        stored = start.layer(layer.name)
        for name, parameter in layer.parameters.items():
            parameter.copy_(stored[name])


@contextmanager
def tried_out(
    model: torch.nn.Module, layout: ModelLayout, *, thaw: bool = True
) -> Iterator[Snapshot]:
    """Give a model away for trials; afterwards it is exactly as it was.

    Weights, what is frozen, gradients, train mode and the random state come back however the
    trial ends.

    Args:
        model: the model.
        layout: its layers.
        thaw: make all of it trainable meanwhile; False keeps frozen what is.
    """
    parameters = [p for layer in layout.layers for p in layer.parameters.values()]
    was_trainable = [parameter.requires_grad for parameter in parameters]
    was_training = model.training
    snapshot = Snapshot(layout)
    devices = sorted({p.device.index or 0 for p in parameters if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            for parameter in parameters:
                parameter.requires_grad_(thaw or parameter.requires_grad)
                parameter.grad = None
            yield snapshot
        finally:
            snapshot.restore()
            for parameter, trainable in zip(parameters, was_trainable, strict=True):
                parameter.grad = None
                parameter.requires_grad_(trainable)
            model.train(was_training)
