"""How a host spreads its model over several processes, and what `sf` can do with that.

Supported are DDP (every process holds all weights) and FSDP2 (every process holds a shard of each
parameter). Everything else is refused with what to use instead.
"""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sf_tui.errors import RunError

_REDUCER = ("_build_params_for_reducer", "_build_debug_param_to_name_mapping", "_ddp_init_helper")
"""What DDP rebuilds its reducer with, in torch 2.6 to 2.13; its own `__setstate__` does so, too."""


@dataclass(frozen=True)
class Spread:
    """How the processes of a training hold its model."""

    wrappers: list[Any] = field(default_factory=list)
    """The DistributedDataParallel modules around it."""
    shards: list[Any] = field(default_factory=list)
    """Its FSDP2 modules."""

    @property
    def is_sharded(self) -> bool:
        """Whether a process holds a part of each parameter only."""
        return bool(self.shards)

    def freeze_refusal(self) -> str | None:
        """Return why a block can't be frozen while the training runs; None if it can."""
        for wrapper in self.wrappers:
            if wrapper.static_graph:
                return "DDP's static graph allows no parameter to be frozen: ddp_static_graph=False"
            if not wrapper.find_unused_parameters and not all(
                hasattr(wrapper, name) for name in _REDUCER
            ):
                return (
                    f"DDP of torch {torch.__version__} can't leave out frozen parameters: set "
                    "ddp_find_unused_parameters=True"
                )
        return None

    def follow_freeze(self) -> None:
        """Reduce only the gradients that there are, after parameters were frozen or unfrozen.

        DDP waits for the gradient of every parameter that trained when it was made, so the next
        step would fail; with `find_unused_parameters` it finds out by itself.
        """
        distributed: Any = torch.distributed
        for wrapper in self.wrappers:
            if wrapper.find_unused_parameters:
                continue
            parameters, sparse = wrapper._build_params_for_reducer()
            names = wrapper._build_debug_param_to_name_mapping(parameters)
            wrapper._ddp_init_helper(parameters, sparse, names, wrapper.static_graph)
            for hook, state in wrapper._comm_hooks:
                distributed._register_comm_hook(wrapper.reducer, state, hook)

    def notes(self) -> list[str]:
        """Return what the operator should know of it."""
        if not self.is_sharded:
            return []
        return ["FSDP2: drift is not measured, and the run keeps no weights; the host's do"]

    def reshard(self) -> None:
        """Free the whole parameters that a pass between two steps left behind."""
        for module in self.shards:
            module.reshard()


def spread_of(model: nn.Module) -> Spread:
    """Return how the processes hold a model, without asking another one.

    Args:
        model: the model as the host passes it to callbacks.

    Raises:
        RunError: `sf` can't work with this way.
    """
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" or _is_deepspeed(model):
        raise RunError(
            "DeepSpeed keeps gradients and optimizer to itself",
            "use DDP, or FSDP2 for a model that is larger than a device",
        )
    if any(isinstance(module, FullyShardedDataParallel) for module in model.modules()):
        raise RunError(
            "FSDP1 joins parameters of several layers into one, so no layer can be frozen",
            "use FSDP2 (fsdp_version: 2), or DDP if the model fits on each device",
        )
    shards = [module for module in model.modules() if isinstance(module, FSDPModule)]
    if _parallel_dimensions(model) > (1 if shards else 0):
        raise RunError(
            "tensor parallelism splits each layer's own computation",
            "use FSDP2 or DDP",
        )
    distributed: Any = torch.distributed
    several = distributed.is_available() and distributed.is_initialized()
    if not several or distributed.get_world_size() < 2 or shards:
        return Spread(shards=shards)
    wrappers = _wrappers_of(model)
    if not wrappers:
        raise RunError(
            "its processes hold the model neither with DDP nor with FSDP2",
            "use one of them: `sf` has to know which weights are the same everywhere",
        )
    return Spread(wrappers=wrappers)


def bare(model: Any) -> Any:
    """Return a model without the wrappers of several processes and of compilation."""
    model = getattr(model, "_orig_mod", model)
    while hasattr(model, "module") and isinstance(model.module, nn.Module):
        model = model.module
    return getattr(model, "_orig_mod", model)


def _is_deepspeed(model: nn.Module) -> bool:
    return type(model).__module__.partition(".")[0] == "deepspeed" or any(
        hasattr(parameter, "ds_id") for parameter in model.parameters()
    )


def _parallel_dimensions(model: nn.Module) -> int:
    """Return in how many dimensions of a device mesh the parameters are split."""
    from torch.distributed.tensor import DTensor

    found = 0
    for parameter in model.parameters():
        if isinstance(parameter, DTensor):
            split = sum(place.is_shard() for place in parameter.placements)
            found = max(found, split)
    return found


def _wrappers_of(model: nn.Module) -> list[Any]:
    from torch.nn.parallel import DistributedDataParallel

    # A Trainer gives callbacks the model inside, and nothing leads from it to its wrapper.
    inside = bare(model)
    return [
        one
        for one in gc.get_objects()
        if issubclass(type(one), DistributedDataParallel) and bare(one) is inside
    ]
