"""Weights that are divided among the ranks (FSDP2): the division, and access to parts and wholes.

A divided parameter is a DTensor. Each rank holds a part of it, of its gradient and of its moments;
a forward pass gathers one block at a time. Whatever needs a whole tensor goes through this module.
The functions that gather are collective: every rank calls them, in the same order.

Source: Zhao et al. 2023 (arXiv 2304.11277), in its form with one DTensor a parameter.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import nn

from sf_tui.engine.layout import Layer, ModelLayout
from sf_tui.engine.ranks import Ranks
from sf_tui.errors import ModelError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def divide(model: nn.Module, layout: ModelLayout, ranks: Ranks) -> ModelLayout:
    """Divide a model's parameters among the ranks, block by block; return its layout.

    Args:
        model: the model, with the same weights on every rank; changed in place.
        layout: its layers.
        ranks: the processes.

    Raises:
        ModelError: a model of this kind can't be divided.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if layout.adapters is not None:
        raise ModelError(
            '[launch] sharding = "fsdp2" does not divide a model with an adapter',
            'take sharding = "ddp": an adapter\'s moments and gradients are small',
        )
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (ranks.world,))
    # Also the root's own parameters are given back after each pass: a probe has no backward pass
    # that would do it, and the next one would read weights from before the update.
    for block in layout.blocks:
        fully_shard(_module_of(model, block), mesh=mesh, reshard_after_forward=True)
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


def _module_of(model: nn.Module, layer: Layer) -> nn.Module:
    parts = [name.split(".")[:-1] for name in layer.parameters]
    shared = itertools.takewhile(lambda each: len(set(each)) == 1, zip(*parts, strict=False))
    return model.get_submodule(".".join(each[0] for each in shared))


def is_divided(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Return whether a tensor is divided among the ranks."""
    if type(tensor) in (torch.Tensor, nn.Parameter):
        return False
    # Deferred: it takes a quarter of a second to import, and one process never needs it.
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def part(tensor: torch.Tensor) -> torch.Tensor:
    """Return this rank's part of a tensor, as a view; a tensor that isn't divided is its own."""
    return tensor.to_local() if is_divided(tensor) else tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a whole tensor on every rank. Collective."""
    return tensor.full_tensor() if is_divided(tensor) else tensor


def part_like(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the part of a whole tensor that this rank has of another one, without a message."""
    if not is_divided(like):
        return tensor
    from torch.distributed.tensor import Shard

    for dimension, placement in enumerate(like.placements):
        if isinstance(placement, Shard):
            rank, count = like.device_mesh.get_local_rank(dimension), like.device_mesh.size()
            # Parts as torch.chunk makes them: the last ones may be smaller, or empty.
            size = -(-tensor.shape[placement.dim] // count)
            start = min(rank * size, tensor.shape[placement.dim])
            end = min(start + size, tensor.shape[placement.dim])
            tensor = tensor.narrow(placement.dim, start, end - start)
    return tensor


def divided_like(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a copy of a whole tensor, divided and placed like another one."""
    own = part_like(tensor, like).to(part(like).device, copy=True)
    if not is_divided(like):
        return own
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        own.contiguous(),
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )


@torch.no_grad()
def assign(parameter: torch.Tensor, tensor: torch.Tensor) -> None:
    """Copy a whole tensor into a parameter; each rank takes its part."""
    part(parameter).copy_(part_like(tensor, parameter))


def sum_parts(values: Sequence[float], like: torch.Tensor) -> list[float]:
    """Return numbers that each rank computed from its part of a tensor, summed. Collective.

    Args:
        values: this rank's numbers.
        like: the tensor; if it isn't divided, the numbers are the sums already.
    """
    if not is_divided(like):
        return list(values)
    numbers = torch.tensor(list(values), dtype=torch.float64, device=part(like).device)
    torch.distributed.all_reduce(numbers, group=like.device_mesh.get_group())
    found: list[float] = numbers.tolist()
    return found


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
