"""Models with a vision or audio part: finds the text part and trains only that.

Such a release is loaded as its original class. Only its text part is tuned: the module with the
decoder blocks, the input embeddings and the output projection. Everything else is never trained,
belongs to no layer, and is written back unchanged. Composite models are recognized by the
structure of the config and the class tables of transformers, not by model family names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from sf_tui.engine.composite_files import SourceFiles, TextTensors
from sf_tui.engine.model_files import StoredNames
from sf_tui.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from sf_tui.engine.observation import Observation

_DECODERS_ONLY = (
    "sf tunes decoder-only language models (GPT-NeoX, Llama, GPT-2, Qwen, Mistral, …), "
    "also as the text part of a vision or audio model"
)

# Exceptions of a forward pass that needs images or sound: a missing argument (TypeError), the
# model's own check (ValueError), a value that is None (AttributeError, RuntimeError, LookupError).
_TEXT_FAULTS = (TypeError, ValueError, AttributeError, RuntimeError, LookupError)


@dataclass(frozen=True)
class Composite:
    """The files of a composite model, and the names of its text part's tensors in them."""

    files: SourceFiles
    tensors: TextTensors
    names: StoredNames

    def write(self, path: Path, model: PreTrainedModel) -> None:
        """Write the weights, the configs and the processor files into a new directory.

        Raises:
            RunError: a source file changed since it was loaded.
            OSError: a file can't be written.
        """
        self.files.write(path, self.tensors.current())
        settings: Any = model.generation_config
        if settings is not None:
            settings.save_pretrained(path)


def class_to_load(source: str, config: PreTrainedConfig) -> Any:
    """Return the class to load a pretrained model with.

    Args:
        source: the model as named in the profile, for messages.
        config: its config.

    Returns:
        The release's original class if it is a composite model; else `AutoModelForCausalLM`.

    Raises:
        ModelError: the model is not a decoder-only language model.
    """
    import transformers
    from transformers.models.auto import modeling_auto

    kind = config.model_type
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    came_as = next(iter(config.architectures or ()), None)
    known = came_as is not None and hasattr(transformers, came_as)
    if config.is_encoder_decoder and came_as != causal:
        raise ModelError(
            f"[model] {source}: {came_as or kind} is an encoder-decoder, which reads its prompt "
            "in one part and answers in another",
            _DECODERS_ONLY,
        )
    composite = _composite_class(kind)
    nested = composite is not None and has_text_part(config)
    if composite and nested and (came_as == composite or not known):
        if getattr(config.get_text_config(decoder=True), "quantization_config", None):
            raise ModelError(
                f"[model] {source}: text_config names a quantization_config: the weights are "
                "quantized and can't be tuned as they are",
                "take the unquantized model",
            )
        return getattr(transformers, composite)
    text_alone = came_as in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    # Trusted custom code declares in auto_map which class loads it.
    if (causal and (text_alone or not nested)) or getattr(config, "auto_map", None):
        return transformers.AutoModelForCausalLM
    reason = f"a {kind} model ({came_as}) is no language model that continues a text"
    if came_as == composite:
        reason = f"the config of {came_as or kind} has no text_config that tells its text part"
    raise ModelError(f"[model] {source}: {reason}", _DECODERS_ONLY)


def has_text_part(config: PreTrainedConfig) -> bool:
    """Return whether a config describes a composite model with a text part."""
    # The config of a flat encoder-decoder returns a copy of itself.
    return not config.is_encoder_decoder and config.get_text_config(decoder=True) is not config


def text_part_name(model: PreTrainedModel) -> str:
    """Return the name of the module that holds a model's decoder; empty for a text model."""
    if not has_text_part(model.config):
        return ""
    decoder: Any = model.get_decoder()
    return next(name for name, module in model.named_modules() if module is decoder)


def text_parameters(model: PreTrainedModel) -> set[str]:
    """Return all parameter names of a model's text part; shared parameters under every name."""
    part = text_part_name(model)
    ends: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    shared = {id(weight) for end in ends if end is not None for weight in end.parameters()}
    return {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not part or name.startswith(f"{part}.") or id(parameter) in shared
    }


def take_text_part(
    source: str, model: PreTrainedModel, folder: Path
) -> tuple[PreTrainedModel, Composite]:
    """Make only the text part of a model trainable.

    Args:
        source: the model as named in the profile, for messages.
        model: the model as loaded.
        folder: the directory that it was loaded from; its files stay open.

    Returns:
        The model to train, and the data needed to write it back. The model is the text part itself
        if that is a complete language model (Llama 4), else the whole model with only its text
        part trainable.

    Raises:
        ModelError: the model returns no logits, or its files can't be written back.
    """
    part = text_part_name(model)
    decoder: Any = model.get_decoder()
    text_model = model
    if part and decoder.get_output_embeddings() is not None:
        text_model = cast("PreTrainedModel", decoder)
        # The written directory must hold the release's own generation settings.
        text_model.generation_config = model.generation_config
    else:
        part = ""
    if text_model.get_output_embeddings() is None:
        raise ModelError(
            f"[model] {source}: {type(model).__name__} has no output projection over tokens",
            _DECODERS_ONLY,
        )
    names = StoredNames(model, part)
    files = SourceFiles(folder)
    trained = text_parameters(text_model)
    for name, parameter in text_model.named_parameters():
        parameter.requires_grad_(name in trained)
    tensors = TextTensors(source, files, names, model, text_model, part, trained)
    return text_model, Composite(files, tensors, names)


def check_text_alone(source: str, observation: Observation, token: int) -> None:
    """Check that a model accepts text without images or sound, in training and in evaluation.

    Args:
        source: the model as named in the profile, for messages.
        observation: a recorded pass of `token` through the model in evaluation.
        token: id of a token that is not an image or audio placeholder.

    Raises:
        ModelError: it doesn't; the message quotes the model's own error.
    """
    model = observation.model
    fault = _fault_in_training(model, token) or observation.fault
    if fault is None:
        return
    if not isinstance(fault, _TEXT_FAULTS):
        raise fault
    reason = (str(fault).strip() or type(fault).__name__).splitlines()[0][:200]
    raise ModelError(
        f"[model] {source}: {type(model).__name__} can't be given text alone: {reason}",
        _DECODERS_ONLY,
    ) from fault


@torch.no_grad()
def _fault_in_training(model: PreTrainedModel, token: int) -> Exception | None:
    """Return the exception of a forward pass over text in train mode; None if it succeeds."""
    live: Any = model
    was_training = model.training
    device = live.get_input_embeddings().weight.device
    ids = torch.full((1, 2), token, dtype=torch.int64, device=device)
    try:
        live.train()
        live(input_ids=ids, use_cache=False)
    except _TEXT_FAULTS as error:
        return error
    finally:
        live.train(was_training)
    return None


def _composite_class(kind: str) -> str | None:
    from transformers.models.auto import modeling_auto

    # Early versions of transformers 5 have only the table of vision models.
    tables: Any = modeling_auto
    names = getattr(
        tables,
        "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
        tables.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )
    name: str | None = names.get(kind)
    return name
