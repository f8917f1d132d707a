"""`[adapter]` of a run whose host trains a LoRA adapter, so that the run can be loaded again."""

from __future__ import annotations

from typing import Any

import torch

from sf_tui.engine.adapters.layers import find_adapters, kind_of

# Settings of peft that `[adapter]` has no key for, with the value that means nothing special.
_PLAIN: dict[str, Any] = {
    "bias": "none",
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "layers_to_transform": None,
    "target_parameters": None,
    "trainable_token_indices": None,
}


def adapter_table(wrapped: Any, bare: torch.nn.Module) -> dict[str, Any] | None:
    """Return the keys of `[adapter]`, if the start is the model without its adapter.

    That is so for a new adapter: one that changes nothing yet, or was told to begin at random. Any
    other is taken as it is when the training begins, and needs no table.

    Args:
        wrapped: the host's model, a `PeftModel` if it trains an adapter.
        bare: the model itself.

    Raises:
        ModelError: more than one adapter is in use, or it is merged into the weights.
    """
    adapters = find_adapters(bare)
    name = "" if adapters is None else adapters.trained
    config = _config_of(wrapped, name)
    if config is None or kind_of(config) != "LORA":
        return None
    if any(getattr(config, key, plain) not in (plain, None) for key, plain in _PLAIN.items()):
        return None
    if not isinstance(config.target_modules, (set, list, tuple)):
        return None
    if config.init_lora_weights is not False and not _changes_nothing(bare, name):
        return None
    return {
        "r": int(config.r),
        "alpha": float(config.lora_alpha),
        "dropout": float(config.lora_dropout),
        "targets": sorted(config.target_modules),
        "rslora": bool(config.use_rslora),
        "dora": bool(config.use_dora),
    }


def _config_of(wrapped: Any, name: str) -> Any:
    model = wrapped
    while not hasattr(model, "peft_config") and isinstance(
        getattr(model, "module", None), torch.nn.Module
    ):
        model = model.module
    configs = getattr(model, "peft_config", None)
    return configs.get(name) if isinstance(configs, dict) else None


def _changes_nothing(model: torch.nn.Module, adapter: str) -> bool:
    outer = [p for name, p in model.named_parameters() if f".lora_B.{adapter}." in name]
    return bool(outer) and not any(bool(p.any()) for p in outer)
