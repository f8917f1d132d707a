"""A new adapter for each stage: the finished one is kept under it, frozen.

The changes of finished stages are rows and columns of one adapter that never trains. They add up to
the start model of the next stage, so no weights of the base change, and all of them together are
one plain LoRA in the end.
"""

from __future__ import annotations

from typing import Any

import torch

from sf_tui.engine.adapters.layers import FINISHED, TRAINED, AdapterLayers
from sf_tui.engine.batches import derive_seed


@torch.no_grad()
def begin_new_adapter(adapters: AdapterLayers, *, seed: int, stage: str, place: int) -> None:
    """Keep the trained adapter under a new one, which starts as no change.

    Args:
        adapters: the model's.
        seed: the run's seed; the new adapter is a pure function of it and the stage.
        stage: the stage's name.
        place: number of stages before it, at least 1.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, stage, "adapter"))
        for module in adapters.tuned.values():
            scale = float(module.scaling[TRAINED])
            if TRAINED in module.lora_embedding_A:
                inner, outer = module.lora_embedding_A, module.lora_embedding_B
                pairs = [(inner[FINISHED], inner[TRAINED], outer[FINISHED], outer[TRAINED])]
            else:
                inner, outer = module.lora_A, module.lora_B
                pairs = [
                    (
                        inner[FINISHED].weight,
                        inner[TRAINED].weight,
                        outer[FINISHED].weight,
                        outer[TRAINED].weight,
                    )
                ]
            for right, new_right, left, new_left in pairs:
                rank = new_right.shape[0]
                rows = slice((place - 1) * rank, place * rank)
                right[rows].copy_(new_right)
                left[:, rows].copy_(new_left * scale)
            _reset(module)


def _reset(module: object) -> None:
    """Give a layer's trained adapter new values, drawn on the CPU whatever its device."""
    live: Any = module
    weights = [
        parameter
        for name, parameter in live.named_parameters()
        if TRAINED in name.split(".") and "base_layer" not in name.split(".")
    ]
    devices = [parameter.device for parameter in weights]
    for parameter in weights:
        parameter.data = parameter.data.cpu()
    live.reset_lora_parameters(TRAINED, True)
    for parameter, device in zip(weights, devices, strict=True):
        parameter.data = parameter.data.to(device)
