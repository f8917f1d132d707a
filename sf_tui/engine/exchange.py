"""What the ranks that train one model exchange of it: gradients, and weights that rank 0 changed.

Each rank has computed its part of the step's losses, divided by the tokens of the whole batch: the
sum is the gradient of one process with the same batch. torch's DistributedDataParallel averages
instead, waits for every parameter's gradient in every backward pass, and must be built again when
a layer is frozen. Here the gradients are summed once, after the last backward pass, so layers can
be frozen between any two steps, and a step can have any number of losses and passes on each rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.ranks import Ranks

_BUCKET_BYTES = 32 << 20
"""Gradients are sent in pieces of about this size: each needs a copy."""


def sum_gradients(
    ranks: Ranks, parameters: Sequence[torch.nn.Parameter], values: Sequence[float], tokens: int
) -> tuple[list[float], int]:
    """Sum the parameters' gradients and the step's numbers over all ranks.

    A parameter without a gradient on every rank is left without one, so that the optimizer skips
    it as it would in one process. In lockstep the backward passes have summed the gradients.

    Args:
        ranks: the processes.
        parameters: the same ones, in the same order, on each rank.
        values: this rank's part of each loss.
        tokens: number of tokens that it read.

    Returns:
        The losses of all ranks together, and their tokens.
    """
    trained = [] if ranks.lockstep else [p for p in parameters if p.requires_grad]
    has = [float(parameter.grad is not None) for parameter in trained]
    sums = ranks.sums([*values, tokens, *has])
    counted = len(values) + 1
    for bucket in _buckets([p for p, n in zip(trained, sums[counted:], strict=True) if n]):
        for parameter in bucket:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in bucket if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        ranks.add_up(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
    return sums[: len(values)], int(sums[len(values)])


@torch.no_grad()
def copy_weights(ranks: Ranks, layout: ModelLayout, optimizer: torch.optim.Optimizer) -> None:
    """Give every rank the weights and the optimizer's moments of rank 0.

    Args:
        ranks: the processes; each has the whole model.
        layout: its layers; what they store is copied.
        optimizer: over the same parameters, in the same order, on each rank.
    """
    for layer in layout.layers:
        for weight in layout.stored_in(layer).values():
            _copy(ranks, weight)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    known = ranks.decide(lambda: [sorted(optimizer.state.get(p, {})) for p in parameters])
    for parameter, names in zip(parameters, known, strict=True):
        if not names:
            optimizer.state.pop(parameter, None)
        for name in names:
            state = optimizer.state[parameter]
            if name not in state:
                like = parameter if name != "step" else torch.zeros((), device=parameter.device)
                state[name] = torch.zeros_like(like)
            _copy(ranks, state[name])


def _copy(ranks: Ranks, tensor: torch.Tensor) -> None:
    whole = tensor.detach().contiguous()
    ranks.copy_main([whole])
    if whole.data_ptr() != tensor.data_ptr():
        tensor.copy_(whole)


def _buckets(parameters: Sequence[torch.nn.Parameter]) -> list[list[torch.nn.Parameter]]:
    """Group parameters of one dtype and device, in their order, up to a size."""
    found: list[list[torch.nn.Parameter]] = []
    size = 0
    for parameter in parameters:
        fits = bool(found) and (
            found[-1][0].dtype == parameter.dtype
            and found[-1][0].device == parameter.device
            and size < _BUCKET_BYTES
        )
        if fits:
            found[-1].append(parameter)
        else:
            found.append([parameter])
            size = 0
        size += parameter.numel() * parameter.element_size()
    return found
