"""Divides a model's weights among the ranks (FSDP2), and gathers them again.

A divided parameter is a DTensor. Each rank holds a part of it, of its gradient and of its moments;
a forward pass gathers one block at a time. Other code reaches the parts through `engine/parts.py`.
The functions that gather are collective: every rank calls them, in the same order.

Source: Zhao et al. 2023 (arXiv 2304.11277), in its form with one DTensor a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from sf_tui.engine.layout import Layer, ModelLayout, block_module
from sf_tui.engine.parts import whole
from sf_tui.engine.ranks import Ranks


def divide(model: nn.Module, layout: ModelLayout, ranks: Ranks) -> ModelLayout:
    """Divide a model's parameters among the ranks, block by block; return its layout.

    Args:
        model: the model, with the same weights on every rank; changed in place.
        layout: its layers.
        ranks: the processes.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    assert layout.adapters is None  # refused with the profile
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (ranks.world,))
    # Also the root's own parameters are given back after each pass: a probe has no backward pass
    # that would do it, and the next one would read weights from before the update.
    for block in layout.blocks:
        fully_shard(block_module(model, block), mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    now = dict(model.named_parameters())

    def divided(layer: Layer) -> Layer:
        return Layer(layer.name, {name: now[name] for name in layer.parameters})

    return replace(
        layout,
        embeddings=divided(layout.embeddings),
        blocks=tuple(map(divided, layout.blocks)),
        head=divided(layout.head),
    )


@torch.no_grad()
def gather_to_main(ranks: Ranks, model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a divided model's state dict, as `gather_tensors`. Collective."""
    return gather_tensors(ranks, {n: t.detach() for n, t in model.state_dict().items()})


def gather_tensors(ranks: Ranks, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return whole tensors in the main memory of rank 0, none on the others. Collective."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if ranks.is_main:
            found[name] = full.to("cpu").contiguous()
    return found
