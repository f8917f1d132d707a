"""Turns a GGUF file into a plain model that can be trained and saved."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from sf_tui.errors import ModelError
from sf_tui.tasks.model_source import first_line, model_faults

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_gguf(place: Path, missing_hint: str) -> PreTrainedModel:
    """Load a GGUF file and put its dequantized weights into a plain model of the same config.

    A model that transformers loaded from GGUF calls itself quantized for good and refuses
    `save_pretrained`.

    Args:
        place: the file.
        missing_hint: what to do where there is no such file.

    Raises:
        ModelError: it can't be read, or the extra that reads it isn't installed.
    """
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    if not place.is_file():
        raise ModelError(f"[model] {place}: no such file", missing_hint)
    # transformers draws a progress bar of its own while it dequantizes.
    with (
        model_faults(lambda error: _not_loaded(place, error)),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        loaded = auto.from_pretrained(str(place.parent), gguf_file=place.name, dtype=torch.float32)
        config_class: Any = type(loaded.config)
        fields = {
            key: value
            for key, value in loaded.config.to_dict().items()
            if key != "quantization_config"
        }
        plain = auto.from_config(config_class(**fields))
        plain.load_state_dict(loaded.state_dict())
    return cast("PreTrainedModel", plain)


def _not_loaded(place: Path, error: BaseException) -> ModelError:
    return ModelError(
        f"[model] {place}: can't be loaded as GGUF: {first_line(error)}",
        "install the extra: pip install 'sf-tui[gguf]'"
        if isinstance(error, ImportError)
        else "transformers must know the file's architecture and quantization",
    )
