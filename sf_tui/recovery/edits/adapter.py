"""Edits of an adapter: its scale, and the top direction of what it adds to a matrix.

The base is never touched. Interpolating from the base with the adapter off to the model is scaling
the adapter's change: ΔW becomes keep · ΔW, exactly, by one factor of the product. Between two
states of an adapter, its parameters are interpolated, whose product is no straight line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sf_tui.engine.adapters.effective import (
    EffectiveChange,
    base_weight,
    low_rank_change,
    uses_dora,
)
from sf_tui.engine.adapters.layers import AdapterLayers, active_name, adapter_names
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.weights import AdapterOff, StartWeights

Start = Mapping[str, Tensor] | None
"""A module's parameters at the start, by name in the module; None: without the adapter."""

EditModule = Callable[[Any, str, Start], tuple[int, int]]
"""Edits one module; returns directions kept and in total."""

_SCALED = ("lora_B", "lora_embedding_B", "hada_w1_a", "lokr_w1", "lokr_w1_a")
"""Factors in which the change is linear; a layer has one of the last two."""


@torch.no_grad()
def edit_modules(
    layout: ModelLayout, start: StartWeights, edit: EditModule
) -> list[tuple[str, float, float, int, int, int]]:
    """Apply an edit to each module that has an adapter.

    Returns:
        For each layer its name, its relative update before and after, and the numbers of edited
        modules, of directions kept and in total.
    """
    adapters = layout.adapters
    assert adapters is not None  # the caller checked
    meter = EffectiveChange(adapters)
    found = []
    for layer in layout.layers:
        then = None if isinstance(start, AdapterOff) else dict(start.tensors(layer.name))
        before = meter.relative_update(layer.name, layer.parameters, then)
        modules = kept = total = 0
        for name, module in _modules_in(adapters, layer.parameters).items():
            own = then and {
                inner.removeprefix(f"{name}."): value
                for inner, value in then.items()
                if inner.startswith(f"{name}.")
            }
            directions = edit(module, active_name(module), own)
            modules += bool(directions[1])
            kept, total = kept + directions[0], total + directions[1]
        after = meter.relative_update(layer.name, layer.parameters, then)
        found.append((layer.name, before, after, modules, kept, total))
    return found


def _modules_in(adapters: AdapterLayers, parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        name: module
        for name, module in adapters.modules.items()
        if any(full.startswith(f"{name}.") for full in parameters)
        and active_name(module) in adapter_names(module)
    }


def interpolate(module: Any, adapter: str, start: Start, keep: float) -> tuple[int, int]:
    """Keep a share of what an adapter changed since the start, in one module."""
    own = {
        name: parameter
        for name, parameter in module.named_parameters()
        if adapter in name.split(".") and not {"base_layer", "original_module"} & {*name.split(".")}
    }
    if not hasattr(module, "base_layer"):
        originals = dict(module.original_module.named_parameters())
        for name, parameter in own.items():
            inner = name.removeprefix(f"modules_to_save.{adapter}.")
            _blend(parameter, originals[inner] if start is None else start[name], keep)
        return 0, 0
    if start is not None and any(
        bool(start[name].any()) for name in own if name.startswith(_SCALED)
    ):
        for name, parameter in own.items():
            _blend(parameter, start[name], keep)
        return 0, 0
    for name, parameter in own.items():
        if name.startswith(_SCALED):
            parameter.copy_(keep * parameter.double())
        elif name.startswith("lora_magnitude_vector"):
            # Without a change, the magnitudes are the norms of the base's rows.
            rows = base_weight(module).flatten(1).to(parameter.dtype).norm(dim=1)
            _blend(parameter, rows.view_as(parameter), keep)
    return 0, 0


def remove_top_direction(module: Any, adapter: str, start: Start, alpha: float) -> tuple[int, int]:
    """Remove a share of the top singular direction of a LoRA's change, in one module.

    From s·B·A = Σ σᵢ uᵢ vᵢᵀ it removes α σ₁ u₁ v₁ᵀ, as B − α u₁ (u₁ᵀ B); the rank stays the same.
    Exact, from a decomposition of two factors of the rank's size.

    Returns:
        Directions kept and in total; (0, 0) for a module that is no LoRA matrix, or whose adapter
        changed something at the start.
    """
    factors = None if uses_dora(module, adapter) else low_rank_change(module, adapter, None)
    if factors is None or (start is not None and _changes(module, adapter, start)):
        return 0, 0
    left, right = factors
    outer, inner = torch.linalg.qr(left), torch.linalg.qr(right.T)
    u, sigma, _ = torch.linalg.svd(outer.R @ inner.R.T)
    if not bool(sigma[0] > 0):
        return 0, 0
    top = outer.Q @ u[:, 0]
    weight = (
        module.lora_embedding_B[adapter]
        if adapter in module.lora_embedding_B
        else module.lora_B[adapter].weight
    )
    whole = weight.double()
    weight.copy_(whole - alpha * torch.outer(top, top @ whole))
    total = int((sigma > sigma[0] * 1e-12).sum())
    return total - (alpha == 1), total


def _changes(module: Any, adapter: str, start: Mapping[str, Tensor]) -> bool:
    factors = low_rank_change(module, adapter, start)
    return factors is None or bool(factors[0].any())


def _blend(now: Tensor, then: Tensor, keep: float) -> None:
    there = then.detach().to(now.device, now.dtype).double()
    now.copy_(there if keep == 0 else there + keep * (now.double() - there))
