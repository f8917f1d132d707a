"""Where a model comes from: random weights, a directory, a hub id, a GGUF file, a starter.

Pickled weights are never loaded and a model's own code only runs when the profile says so by name.
Every failure is told as a `ModelError` that names the source.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import logging
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.positions import made_for, position_end
from sf_tui.errors import ModelError
from sf_tui.profile import ModelSettings, starter_directory
from sf_tui.profile.packages import is_package_source, package_hint
from sf_tui.tasks.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# What transformers raises for a source that it can't use, by experience: a missing file (OSError),
# a config that makes no sense (ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
# StrictDataclassError), damaged weights (SafetensorError, RuntimeError, struct.error for GGUF), a
# missing package (ImportError).
_SOURCE_FAULTS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    StrictDataclassError,
    RuntimeError,
    ImportError,
    SafetensorError,
    struct.error,
)

# Older names of rotary settings: config.json files and papers use them, and transformers still
# understands them, though no config class lists them any more.
_ROTARY_NAMES = frozenset(
    {"rotary_pct", "rotary_emb_base", "rope_theta", "rope_scaling", "partial_rotary_factor"}
)


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def pad_id(self) -> int:
        """Token id that fills rows up; what it is doesn't matter, for it is never looked at."""
        for candidate in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if candidate is not None:
                return int(candidate)
        return 0

    @property
    def max_length(self) -> int | None:
        """The longest row in tokens that the model's positions reach; None where it has no end."""
        return made_for(self.model)

    def row_limit(self, wanted: int | None) -> int | None:
        """Return the most tokens of a row, where a profile asks for `wanted`.

        A table of positions ends where it ends; past positions that are computed, the profile
        decides.
        """
        if wanted is None:
            return self.max_length
        end = position_end(self.model)
        return wanted if end is None else min(wanted, end)


def load_model(
    settings: ModelSettings,
    base_dir: Path,
    compute: ComputeSetting,
    *,
    seed: int,
    gradient_checkpointing: bool = False,
) -> LoadedModel:
    """Load the model and the tokenizer that a profile names, onto the device.

    Raises:
        ModelError: they can't be loaded; the message names the source and what to do.
    """
    import transformers

    quiet: Any = transformers.logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    source = settings.source
    if source == "random":
        tokenizer = _tokenizer_of(settings, settings.tokenizer or "biography", base_dir)
        model = _random_model(settings, tokenizer, seed)
    else:
        place = _resolve(source, base_dir)
        if place.suffix == ".gguf":
            model = _gguf_model(place)
        else:
            model = _pretrained_model(settings, place, compute)
        tokenizer = _tokenizer_of(settings, settings.tokenizer or str(place), base_dir)
    largest = max(tokenizer.get_vocab().values(), default=0)
    _refuse_encoder(source, model.config)
    embedding: Any = model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    if largest >= rows:
        raise ModelError(
            f"[model] {source}: the tokenizer knows {largest + 1} tokens, the model only {rows}",
            "use the tokenizer that belongs to the model",
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"[model] {source}: the tokenizer has no end token, which every answer ends with",
            "set eos_token in its tokenizer_config.json",
        )
    tokenizer.padding_side = "right"
    model.config.use_cache = False
    cast("torch.nn.Module", model).to(device=compute.device, dtype=compute.weights_dtype)
    if gradient_checkpointing:
        _checkpoint_activations(model)
    return LoadedModel(model, tokenizer)


def save_model(loaded: LoadedModel, path: Path) -> None:
    """Write weights and tokenizer as a plain Hugging Face directory; `path` must not exist yet."""
    loaded.model.config.use_cache = True
    try:
        loaded.model.save_pretrained(path)
        loaded.tokenizer.save_pretrained(path)
    finally:
        loaded.model.config.use_cache = False


def _checkpoint_activations(model: Any) -> None:
    # The first versions of transformers 5 have only the older name.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    # Reentrant checkpointing loses every gradient when the bottom is frozen (transformers #21381).
    enable({"use_reentrant": False})
    # For adapters, transformers then makes the embeddings' output ask for a gradient, and backward
    # would run through frozen blocks down to it.
    if hasattr(model, "_require_grads_hook"):
        model.disable_input_require_grads()


def _refuse_encoder(source: str, config: PretrainedConfig) -> None:
    """Refuse a model whose every token sees the whole row: it would read the answer off."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if masked and not getattr(config, "is_decoder", False):
        raise ModelError(
            f"[model] {source}: a {config.model_type} encoder, whose tokens see what comes after",
            "sf tunes decoder-only language models (GPT-NeoX, Llama, GPT-2, Qwen, Mistral, …)",
        )


def _tokenizer_of(settings: ModelSettings, source: str, base_dir: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(
        source,
        base_dir,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
    )


def _resolve(source: str, base_dir: Path) -> Path:
    if source.startswith("starter:"):
        return starter_directory(source.removeprefix("starter:"))
    if is_package_source(source):
        # One that is installed became a path when its profile was loaded.
        raise ModelError(f"[model] source: there is no {source}", package_hint(source))
    place = Path(source).expanduser()
    if not place.is_absolute() and (base_dir / place).exists():
        return base_dir / place
    looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1
    if (looks_local or place.suffix == ".gguf") and not place.exists():
        near = _nearest_entry(place if place.is_absolute() else base_dir / place)
        raise ModelError(f"[model] {source}: no such file or directory", near)
    return place


def _nearest_entry(place: Path) -> str:
    if not place.parent.is_dir():
        return f"{place.parent} doesn't exist either"
    names = [entry.name for entry in place.parent.iterdir()]
    near = difflib.get_close_matches(place.name, names, n=1)
    return f"did you mean '{place.parent / near[0]}'?" if near else "check [model] source"


def _first_line(error: BaseException) -> str:
    lines = (str(error).strip() or type(error).__name__).splitlines()
    # "Validation error for field 'hidden_size':" says what is wrong in its second line.
    said = " ".join(line.strip() for line in lines[: 1 + lines[0].endswith(":")])
    return said[:300]


def _random_model(
    settings: ModelSettings, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    config = _random_config(settings, tokenizer)
    torch.manual_seed(derive_seed(seed, "weights"))
    try:
        return cast("PreTrainedModel", auto.from_config(config))
    except _SOURCE_FAULTS as error:
        raise ModelError(
            f"[model.config] no {config.model_type} model can be made of it: {_first_line(error)}",
            "check that the sizes fit each other (hidden_size divides by the heads, …)",
        ) from error


def _random_config(settings: ModelSettings, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    given = dict(settings.config)
    kind = str(given.pop("model_type", ""))
    # The names alone: the mapping itself would import every model's module (a second or two).
    known = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    if kind not in known:
        near = difflib.get_close_matches(kind, known, n=1)
        raise ModelError(
            f"[model.config] model_type '{kind}' is no decoder that transformers knows",
            f"did you mean '{near[0]}'?" if near else "for example gpt_neox or llama",
        )
    try:
        standard = AutoConfig.for_model(kind)
        names = set(standard.to_dict()) | set(type(standard).attribute_map) | _ROTARY_NAMES
        for key in given:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                raise ModelError(
                    f"[model.config] unknown key '{key}' for a {kind} model",
                    f"did you mean '{near[0]}'?" if near else "see the model's config class",
                )
        ids = {
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        return AutoConfig.for_model(kind, **(ids | given))
    except _SOURCE_FAULTS as error:
        raise ModelError(
            f"[model.config] not a {kind} config: {_first_line(error)}", "check its values"
        ) from error


def _pretrained_model(
    settings: ModelSettings, place: Path, compute: ComputeSetting
) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    local = place.is_dir()
    if local:
        _check_directory(settings.source, place)
    elif place.is_file():
        raise ModelError(
            f"[model] {settings.source}: a file; a model is a directory or a .gguf file",
            f"did you mean its folder '{place.parent}'?",
        )
    try:
        model, report = auto.from_pretrained(
            str(place) if local else settings.source,
            dtype=compute.weights_dtype,
            use_safetensors=True,
            trust_remote_code=settings.trust_remote_code,
            revision=settings.revision or "main",
            local_files_only=local,
            output_loading_info=True,
            # Told below by name; transformers' own error names no tensor.
            ignore_mismatched_sizes=True,
        )
    except _SOURCE_FAULTS as error:
        raise ModelError(
            f"[model] {settings.source}: can't be loaded: {_first_line(error)}",
            "check that the directory is complete and its files undamaged"
            if local
            else "no directory of that name; as a hub id it needs the network or a filled cache "
            "(and a licence accepted where the model asks for one)",
        ) from error
    # Only what is tied in this very config: an untied output projection must have weights.
    missing = sorted(set(report["missing_keys"]) - set(model.all_tied_weights_keys))
    reshaped = sorted(str(key[0]) for key in report["mismatched_keys"])
    if missing or reshaped:
        wrong = [f"{name} is missing" for name in missing]
        wrong += [f"{name} has another shape" for name in reshaped]
        raise ModelError(
            f"[model] {settings.source}: the weights don't fill the model: "
            f"{', '.join(wrong[:3])}{' …' if len(wrong) > 3 else ''} ({len(wrong)} in all)",
            "config.json and the weights belong to different models, or a file is missing",
        )
    return cast("PreTrainedModel", model)


def _check_directory(source: str, place: Path) -> None:
    config = place / "config.json"
    if not config.is_file():
        hint = "a Hugging Face model directory holds config.json and *.safetensors"
        if any(place.glob("*.gguf")):
            hint = "name the .gguf file itself"
        elif (place / "model" / "config.json").is_file():
            hint = f"did you mean '{place / 'model'}'?"
        raise ModelError(f"[model] {source}: no config.json in it", hint)
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{config}: not JSON: {_first_line(error)}", "fetch it anew") from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise ModelError(f"{config}: it names no model_type", "is this a transformers model?")
    if "quantization_config" in content:
        raise ModelError(
            f"{config}: the weights are quantized and can't be tuned as they are",
            "take the unquantized model",
        )
    if not any(place.glob("*.safetensors")):
        pickled = any(place.glob("*.bin")) or any(place.glob("*.pt"))
        raise ModelError(
            f"[model] {source}: no *.safetensors in it",
            "its weights are pickled, which sf never loads: convert them to safetensors first"
            if pickled
            else "the weights are missing",
        )


def _gguf_model(place: Path) -> PreTrainedModel:
    """Load a GGUF file and put its dequantized weights into a plain model of the same config.

    A model that transformers loaded from GGUF calls itself quantized for ever and refuses
    `save_pretrained`.
    """
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    if not place.is_file():
        raise ModelError(f"[model] {place}: no such file", _nearest_entry(place))
    try:
        # transformers draws a progress bar of its own while it dequantizes.
        with contextlib.redirect_stderr(io.StringIO()):
            loaded = auto.from_pretrained(
                str(place.parent), gguf_file=place.name, dtype=torch.float32
            )
        config_class: Any = type(loaded.config)
        fields = {
            key: value
            for key, value in loaded.config.to_dict().items()
            if key != "quantization_config"
        }
        plain = auto.from_config(config_class(**fields))
        plain.load_state_dict(loaded.state_dict())
    except _SOURCE_FAULTS as error:
        missing = isinstance(error, ImportError)
        raise ModelError(
            f"[model] {place}: can't be loaded as GGUF: {_first_line(error)}",
            "install the extra: pip install 'sf-tui[gguf]'"
            if missing
            else "transformers must know the file's architecture and quantization",
        ) from error
    return cast("PreTrainedModel", plain)
