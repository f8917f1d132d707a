"""QLoRA: holds the base in 4 bits while its adapter trains.

Source: Dettmers et al. 2023, arXiv 2305.14314 (NF4 with double quantization).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from sf_tui.errors import ModelError
from sf_tui.profile.adapter_schema import AdapterSettings

if TYPE_CHECKING:
    from sf_tui.engine.compute import ComputeSetting


def quantization_of(settings: AdapterSettings, compute: ComputeSetting) -> dict[str, Any]:
    """Return the options with which transformers loads a base; empty if it isn't quantized.

    Raises:
        ModelError: there is no GPU, or bitsandbytes isn't installed.
    """
    if settings.quantize == "none":
        return {}
    if compute.device.type != "cuda":
        raise ModelError(
            f'[adapter] quantize = "{settings.quantize}" needs a GPU, and this run is on '
            f"{compute.device.type}: bitsandbytes trains on 4-bit weights only there",
            "take quantize away: on a CPU the base is held in full",
        )
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            f'[adapter] quantize = "{settings.quantize}" needs bitsandbytes, which isn\'t '
            "installed",
            "pip install bitsandbytes",
        )
    # Deferred: imports transformers' quantizers.
    from transformers import BitsAndBytesConfig

    wide = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    config: Any = BitsAndBytesConfig
    return {
        "quantization_config": config(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=wide,
        ),
        "device_map": {"": compute.device},
    }
