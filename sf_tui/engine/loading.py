"""Where a model comes from: random weights, a directory, a hub id, a GGUF file, a starter.

Pickled weights are never loaded and a model's own code only runs when the profile says so by name.
Every failure is told as a `ModelError` that names the source.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.composite import (
    Composite,
    check_text_alone,
    class_to_load,
    has_text_part,
    take_text_part,
)
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.direction import refuse_kind, refuse_looking_ahead, refuse_other_positions
from sf_tui.engine.generation_end import write_stops
from sf_tui.engine.gguf_model import load_gguf
from sf_tui.engine.hub_snapshot import fetch_snapshot
from sf_tui.engine.model_files import inspect_directory
from sf_tui.engine.model_size import refuse_modules, refuse_random_size
from sf_tui.engine.positions import made_for, position_end
from sf_tui.engine.weight_check import (
    find_ignored,
    loading_failed,
    refuse_incomplete,
    refuse_not_finite,
    refuse_size,
    refuse_unplaced,
)
from sf_tui.errors import ModelError
from sf_tui.profile import ModelSettings, starter_directory
from sf_tui.profile.packages import is_package_source, package_hint
from sf_tui.tasks.model_source import first_line, load_tokenizer, model_faults

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

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
    notes: tuple[str, ...] = ()
    """What the user must know of the loading, such as weights that are left unread."""
    composite: Composite | None = None
    """What the model's directory holds besides its text part; None for a model of text alone."""

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
    notes: list[str] = []
    composite: Composite | None = None
    if source == "random":
        tokenizer = _tokenizer_of(settings, settings.tokenizer or "biography", base_dir)
        model = _random_model(settings, tokenizer, seed)
    else:
        place = _resolve(source, base_dir)
        if place.suffix == ".gguf":
            model = load_gguf(place, _nearest_entry(place))
        else:
            model, folder = _pretrained_model(settings, place, compute, notes)
            if has_text_part(model.config):
                model, composite = take_text_part(source, model, folder)
        tokenizer = _tokenizer_of(settings, settings.tokenizer or str(place), base_dir)
    largest = max(tokenizer.get_vocab().values(), default=0)
    refuse_kind(source, model.config)
    refuse_other_positions(source, model)
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
    if source != "random":
        refuse_not_finite(source, model)
    if composite is not None:
        check_text_alone(source, model, tokenizer.eos_token_id)
    refuse_looking_ahead(source, model)
    if gradient_checkpointing:
        _checkpoint_activations(model)
    return LoadedModel(model, tokenizer, tuple(notes), composite)


def save_model(loaded: LoadedModel, path: Path) -> None:
    """Write weights and tokenizer as a plain Hugging Face directory; `path` must not exist yet."""
    loaded.model.config.use_cache = True
    try:
        if loaded.composite is None:
            loaded.model.save_pretrained(path)
        else:
            loaded.composite.write(path, loaded.model)
        loaded.tokenizer.save_pretrained(path)
        write_stops(loaded.model, path)
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


def _random_model(
    settings: ModelSettings, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM

    def make_config(keys: Mapping[str, Any]) -> PretrainedConfig:
        return _random_config(settings.model_copy(update={"config": dict(keys)}), tokenizer)

    config = make_config(settings.config)
    with model_faults(
        lambda error: ModelError(
            f"[model.config] no {config.model_type} model can be made of it: {first_line(error)}",
            "check that the sizes fit each other (hidden_size divides by the heads, …)",
        )
    ):
        refuse_random_size(settings.config, make_config, auto.from_config)
        torch.manual_seed(derive_seed(seed, "weights"))
        return cast("PreTrainedModel", auto.from_config(config))


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
    with model_faults(
        lambda error: ModelError(
            f"[model.config] not a {kind} config: {first_line(error)}", "check its values"
        )
    ):
        refuse_modules(given)
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


def _pretrained_model(
    settings: ModelSettings, place: Path, compute: ComputeSetting, notes: list[str]
) -> tuple[PreTrainedModel, Path]:
    """Load a directory or a hub id.

    Returns:
        The model and the directory that it was loaded from; `notes` is given what the user must
        know of the loading.
    """
    from transformers import AutoConfig

    source, trusts_code = settings.source, settings.trust_remote_code
    if place.is_file():
        raise ModelError(
            f"[model] {source}: a file; a model is a directory or a .gguf file",
            f"did you mean its folder '{place.parent}'?",
        )
    folder = place
    with model_faults(lambda error: loading_failed(source, error)):
        if not place.is_dir():
            folder = fetch_snapshot(source, settings.revision, trusts_code=trusts_code)
        files = inspect_directory(source, folder, trusts_code=trusts_code)
        options = {"trust_remote_code": trusts_code, "local_files_only": True}
        config = AutoConfig.from_pretrained(str(folder), **options)
        loader = class_to_load(source, config)
        # A model's own code may not build without its weights.
        if type(config).__module__.startswith("transformers."):
            refuse_size(source, files, config, loader, compute.weights_dtype.itemsize)
        model, report = loader.from_pretrained(
            str(folder),
            dtype=compute.weights_dtype,
            use_safetensors=True,
            output_loading_info=True,
            # Reported below by name; transformers' own error names no tensor.
            ignore_mismatched_sizes=True,
            **options,
        )
    refuse_incomplete(source, model, report)
    refuse_unplaced(source, model, report["unexpected_keys"])
    ignored = find_ignored(model, files.tensors)
    if ignored:
        notes.append(
            f"{len(ignored)} tensors of {source} belong to a part that transformers leaves out "
            f"(multi-token prediction, for instance) and are not in the model that is written: "
            f"{', '.join(ignored[:3])}{' …' if len(ignored) > 3 else ''}"
        )
    return cast("PreTrainedModel", model), folder
