"""Writes an adapter as a plain PEFT directory, and merges it into the weights of its base."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import nn

from sf_tui.engine.adapters.files import ADAPTER_WEIGHTS
from sf_tui.engine.adapters.inject import PREFIX
from sf_tui.engine.adapters.layers import FINISHED, TRAINED, find_adapters
from sf_tui.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def write_adapter(model: PreTrainedModel, folder: Path, base: str, revision: str | None) -> None:
    """Write the adapter of a model so that `PeftModel.from_pretrained(base, folder)` loads it.

    The adapters of finished stages and the trained one become a single adapter, whose rank is the
    sum of theirs.

    Args:
        model: the model with the adapter.
        folder: an empty folder.
        base: directory, file or hub id of the base.
        revision: branch, tag or commit of a hub id.
    """
    # Deferred: an optional dependency.
    from peft import get_peft_model_state_dict

    live: Any = model
    adapters = find_adapters(model)
    own = TRAINED if adapters is None else adapters.trained
    config = copy.copy(live.peft_config[own])
    tensors = get_peft_model_state_dict(model, adapter_name=own, save_embedding_layers=False)
    if FINISHED in live.peft_config:
        below = get_peft_model_state_dict(model, adapter_name=FINISHED, save_embedding_layers=False)
        tensors = _joined(model, tensors, below)
        config.r += live.peft_config[FINISHED].r
        config.lora_alpha, config.use_rslora = config.r, False
    config.base_model_name_or_path = base
    config.revision = revision
    config.task_type = "CAUSAL_LM"
    config.inference_mode = True
    if isinstance(config.target_modules, set):
        # Sorted, so that the same run writes the same file.
        config.target_modules = sorted(config.target_modules)
    config.save_pretrained(str(folder))
    plain = {
        f"{PREFIX}{name.removeprefix(PREFIX)}": value.detach().cpu().clone().contiguous()
        for name, value in tensors.items()
    }
    save_file(plain, folder / ADAPTER_WEIGHTS, {"format": "pt"})


def _joined(
    model: PreTrainedModel, trained: dict[str, torch.Tensor], below: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return two adapters as one with a scale of 1."""
    layers: Iterable[tuple[str, Any]] = model.named_modules()
    scales = {
        name: float(module.scaling[TRAINED])
        for name, module in layers
        if hasattr(module, "base_layer") and TRAINED in module.scaling
    }
    found: dict[str, torch.Tensor] = {}
    for name, value in trained.items():
        module, _, part = name.partition(".lora_")
        if part.startswith(("B", "embedding_B")):
            found[name] = torch.cat([below[name], value * scales[module]], 1)
        else:
            found[name] = torch.cat([below[name], value], 0)
    return found


@torch.no_grad()
def merge_adapter(model: PreTrainedModel) -> None:
    """Add the change of a model's adapter to its weights and remove peft's layers, in place.

    Raises:
        ModelError: the model has no adapter, the sum is not finite, or the adapter changes a weight
            that another layer shares.
    """
    adapters = find_adapters(model)
    if adapters is None:
        raise ModelError("there is no adapter to merge", "name a run or a directory that has one")
    shared = _shared_weights(model)
    for name, module in adapters.modules.items():
        parent_name, _, last = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        if not hasattr(module, "base_layer"):
            setattr(parent, last, module.modules_to_save[module.active_adapters[0]])
            continue
        base = module.get_base_layer()
        if id(base.weight) in shared:
            raise ModelError(
                f"{name}: its weight is also that of another layer (tied embeddings), which the "
                "adapter doesn't change",
                "keep the adapter beside its base",
            )
        try:
            module.merge(safe_merge=True)
        except ValueError as error:
            raise ModelError(
                f"{name}: the merged weight would not be finite", "the adapter is damaged"
            ) from error
        setattr(parent, last, base)
    live: Any = model
    del live.peft_config
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())


def _shared_weights(model: nn.Module) -> set[int]:
    seen: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        seen[id(parameter)] = seen.get(id(parameter), 0) + 1
    return {key for key, count in seen.items() if count > 1}
