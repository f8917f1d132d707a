"""Access to the parts and the whole of tensors that may be divided among ranks (DTensors).

`whole` and `sum_parts` are collective: every rank calls them, in the same order. For a tensor that
isn't divided, all of them do what one process does without them. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


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
