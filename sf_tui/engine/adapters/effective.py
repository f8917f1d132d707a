"""What an adapter changes: the difference of effective weights, one module at a time.

The effective weight of a module is that of its base plus the adapter's change, for LoRA
W + s·B·A. Differences between two low-rank changes are computed from products of size rank × rank;
only DoRA and the Hadamard and Kronecker types need a module's whole weight, one at a time. Nothing
in the model is changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sf_tui.engine.adapters.layers import FINISHED, AdapterLayers, active_name, adapter_names

Factors = tuple[Tensor, Tensor]
"""(out, rank) and (rank, in), whose product is the change of a weight of shape (out, in)."""


class EffectiveChange:
    """Measures ‖W − W₀‖ / ‖W₀‖ of effective weights, where W₀ is the start's.

    The sum runs over the modules that have an adapter, and over whole modules that train beside it.

    Source: ‖LR‖² = tr((LᵀL)(RRᵀ)), in double precision, so that a small difference of two large
    changes keeps half of the digits.
    """

    def __init__(self, adapters: AdapterLayers) -> None:
        self._adapters = adapters
        self._norms: dict[str, float] = {}

    @torch.no_grad()
    def relative_update(
        self, layer: str, parameters: Mapping[str, Tensor], start: Mapping[str, Tensor] | None
    ) -> float:
        """Return the relative change of a layer.

        Args:
            layer: its name.
            parameters: its parameters, by name in the model.
            start: the adapter's parameters at the start, by name in the model; None if the start is
                the model without the adapter.
        """
        moved = norm = 0.0
        for name, module in self._adapters.modules.items():
            own = {
                full.removeprefix(f"{name}."): full
                for full in parameters
                if full.startswith(f"{name}.")
            }
            if not own:
                continue
            then = None
            if start is not None:
                then = {inner: start[full] for inner, full in own.items() if full in start}
            counted = layer in self._norms
            square, size = _module_change(module, then, with_norm=not counted)
            moved += square
            norm += size
        self._norms.setdefault(layer, math.sqrt(norm))
        return math.sqrt(max(moved, 0.0)) / max(self._norms[layer], 1e-12)


def low_rank_change(
    module: Any, adapter: str, start: Mapping[str, Tensor] | None
) -> Factors | None:
    """Return the change that an adapter makes to a matrix, as two factors in double precision.

    Args:
        module: a layer with an adapter.
        adapter: the adapter's name.
        start: values to use instead of the layer's own, by parameter name in the layer.

    Returns:
        The factors; None if the change is no product of two matrices (DoRA, LoHa, convolutions).
    """
    if adapter in getattr(module, "lora_embedding_A", {}):
        names = (f"lora_embedding_B.{adapter}", f"lora_embedding_A.{adapter}")
    elif adapter in getattr(module, "lora_A", {}) and not uses_dora(module, adapter):
        names = (f"lora_B.{adapter}.weight", f"lora_A.{adapter}.weight")
    else:
        return None
    if uses_dora(module, adapter):
        return None
    own = dict(module.named_parameters())
    left, right = (start[name] if start else own[name] for name in names)
    if left.ndim != 2 or right.ndim != 2:
        return None
    device = own[names[0]].device
    scale = float(module.scaling[adapter])
    return left.detach().to(device).double() * scale, right.detach().to(device).double()


def uses_dora(module: Any, adapter: str) -> bool:
    """Return whether an adapter splits a weight into magnitude and direction."""
    return bool(getattr(module, "use_dora", {}).get(adapter, False))


def base_weight(module: Any) -> Tensor:
    """Return the (out, in) weight of a layer's base, dequantized if necessary."""
    # Deferred: an optional dependency.
    from peft.utils.integrations import dequantize_module_weight

    base = module.get_base_layer()
    weight: Tensor = dequantize_module_weight(base).detach()
    return weight.T if is_transposed(module) else weight


def is_transposed(module: Any) -> bool:
    """Return whether a layer's weight has the shape (in, out), as in GPT-2 and in embeddings."""
    return bool(getattr(module, "fan_in_fan_out", False)) or isinstance(
        module.get_base_layer(), nn.Embedding
    )


def effective_weight(
    module: Any, adapter: str, start: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Return the (out, in) effective weight of a module in double precision.

    Args:
        module: a layer with an adapter.
        adapter: the adapter's name.
        start: values to use instead of the layer's own, by parameter name in the layer.
    """
    with _values(module, start):
        weight = base_weight(module).double()
        if adapter in getattr(module, "lora_A", {}) or adapter in getattr(
            module, "lora_embedding_A", {}
        ):
            change = module.get_delta_weight(adapter).double()
            weight = weight + (change.T if is_transposed(module) else change)
            if uses_dora(module, adapter):
                magnitude = module.lora_magnitude_vector[adapter].weight.double()
                shape = (-1, *[1] * (weight.ndim - 1))
                length = weight.flatten(1).norm(dim=1)
                weight = weight * (magnitude.flatten() / length).view(shape)
        elif adapter in adapter_names(module):
            change = module.get_delta_weight(adapter).double()
            weight = weight + (change.T if is_transposed(module) else change)
        return weight


def _module_change(
    module: Any, start: Mapping[str, Tensor] | None, *, with_norm: bool
) -> tuple[float, float]:
    """Return ‖W − W₀‖², and ‖W₀‖² if wanted (else 0), of one module."""
    if not hasattr(module, "base_layer"):
        return _whole_module_change(module, start, with_norm=with_norm)
    adapter = active_name(module)
    if adapter not in adapter_names(module):
        return 0.0, 0.0
    now = low_rank_change(module, adapter, None)
    if now is None:
        then = base_weight(module).double()
        if start is not None:
            then = effective_weight(module, adapter, start)
        difference = effective_weight(module, adapter) - then
        return _square(difference), _square(then) if with_norm else 0.0
    then_factors = [] if start is None else [low_rank_change(module, adapter, start)]
    several = [now, *((-left, right) for left, right in filter(None, then_factors))]
    moved = _product_square(several)
    if not with_norm:
        return moved, 0.0
    fixed = [*filter(None, then_factors)]
    if FINISHED in adapter_names(module):
        below = low_rank_change(module, FINISHED, None)
        fixed += [below] if below is not None else []
    weight = base_weight(module)
    norm = _square(weight)
    for left, right in fixed:
        norm += 2 * float(((left.to(weight.dtype).T @ weight).double() * right).sum())
    return moved, norm + (_product_square(fixed) if fixed else 0.0)


def _whole_module_change(
    module: Any, start: Mapping[str, Tensor] | None, *, with_norm: bool
) -> tuple[float, float]:
    own = dict(module.named_parameters())
    adapter = active_name(module)
    moved = norm = 0.0
    for name, original in module.original_module.named_parameters():
        copy = f"modules_to_save.{adapter}.{name}"
        if copy not in own:
            continue
        now = own[copy].detach()
        then = original.detach() if start is None else start[copy].to(now.device)
        moved += _square(now.double() - then.double())
        norm += _square(then) if with_norm else 0.0
    return moved, norm


def _product_square(several: list[Factors]) -> float:
    """Return ‖Σ LᵢRᵢ‖²."""
    left = torch.cat([one for one, _ in several], 1)
    right = torch.cat([other for _, other in several], 0)
    return float(((left.T @ left) * (right @ right.T)).sum())


def _square(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2


@contextmanager
def _values(module: nn.Module, start: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Let a layer's parameters have other values meanwhile; its own tensors are never written."""
    own = dict(module.named_parameters())
    kept = {name: own[name].data for name in start or {}}
    try:
        for name, value in (start or {}).items():
            own[name].data = value.to(kept[name].device, kept[name].dtype)
        yield
    finally:
        for name, value in kept.items():
            own[name].data = value
