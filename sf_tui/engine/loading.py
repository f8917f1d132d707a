"""Loads a model: random weights, a directory, a hub id, a GGUF file or a starter.

Pickled weights are never loaded, and a model's own code runs only if the profile allows it. Every
failure raises a `ModelError` that names the source.
"""

from __future__ import annotations

import contextlib
import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from sf_tui.engine.adapters.files import inspect_adapter
from sf_tui.engine.adapters.inject import add_adapter, load_adapter, require_peft
from sf_tui.engine.adapters.quantize import quantization_of
from sf_tui.engine.adapters.write import write_adapter
from sf_tui.engine.composite import (
    Composite,
    check_text_alone,
    class_to_load,
    has_text_part,
    take_text_part,
)
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.generation_end import write_stops
from sf_tui.engine.hub_files import fetch_snapshot
from sf_tui.engine.layout import ModelLayout, read_layout
from sf_tui.engine.model_files import inspect_directory
from sf_tui.engine.observation import Observation
from sf_tui.engine.random_model import random_model
from sf_tui.engine.weight_check import (
    find_ignored,
    loading_failed,
    made_for,
    position_end,
    refuse_incomplete,
    refuse_kind,
    refuse_looking_ahead,
    refuse_not_finite,
    refuse_other_positions,
    refuse_size,
    refuse_unplaced,
)
from sf_tui.errors import ModelError, nearest_name
from sf_tui.profile import ModelSettings, starter_directory
from sf_tui.profile.adapter_schema import AdapterSettings
from sf_tui.profile.sources import is_package_source, package_hint
from sf_tui.tasks.model_source import first_line, load_tokenizer, model_faults
from sf_tui.vocabulary.sizes import counted

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class AdapterBase:
    """The base of a model with an adapter, as the adapter's directory names it."""

    source: str
    """A directory, a .gguf file or a hub id."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    layout: ModelLayout
    """Its layers, trainable parameters and stored parameters, as loaded."""
    notes: tuple[str, ...] = ()
    """Notes on loading for the user, such as weights that were not read."""
    composite: Composite | None = None
    """The rest of the model's directory besides its text part; None for a text model."""
    base: AdapterBase | None = None
    """The base of its adapter; None if the weights themselves train."""

    @property
    def pad_id(self) -> int:
        """Token id for padding; any id works, since padding is masked."""
        for candidate in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if candidate is not None:
                return int(candidate)
        return 0

    @property
    def max_length(self) -> int | None:
        """The longest row in tokens that the model's positions allow; None if unlimited."""
        return made_for(self.model)

    def row_limit(self, wanted: int | None) -> int | None:
        """Return the largest row length in tokens when the profile requests `wanted`.

        A position table is a hard limit; computed positions may be exceeded by the profile.
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
    adapter: AdapterSettings | None = None,
    stages: int = 1,
) -> LoadedModel:
    """Load a profile's model and tokenizer onto the device.

    Args:
        settings: `[model]`.
        base_dir: directory that relative paths start from.
        compute: device and precision.
        seed: seed of random weights and of a new adapter.
        gradient_checkpointing: recompute activations in the backward pass.
        adapter: `[adapter]`; None if the weights themselves train.
        stages: number of stages that train an adapter.

    Raises:
        ModelError: they can't be loaded; the error names the source and a remedy.
    """
    import transformers

    quiet: Any = transformers.logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    source = settings.source
    notes: list[str] = []
    composite: Composite | None = None
    base: AdapterBase | None = None
    options: dict[str, Any] = {}
    if adapter is not None:
        require_peft()
        options = quantization_of(adapter, compute)
    if source == "random":
        tokenizer = _tokenizer_of(settings, settings.tokenizer or "biography", base_dir)
        model = random_model(settings, tokenizer, seed)
    else:
        place = _resolve(source, base_dir)
        is_there = place.exists()
        base = AdapterBase(
            str(place.absolute()) if is_there else source, None if is_there else settings.revision
        )
        if place.suffix == ".gguf":
            model = _load_gguf(place, _nearest_entry(place))
        else:
            model, folder = _pretrained_model(settings, place, compute, notes, options)
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
    if adapter is not None:
        _adapt(model, adapter, composite, source, seed=seed, stages=stages)
    if not options:
        cast("torch.nn.Module", model).to(device=compute.device, dtype=compute.weights_dtype)
    if source != "random":
        refuse_not_finite(source, model)
    # The end token is never an image or audio placeholder.
    ends = [tokenizer.eos_token_id] * 4 if composite is not None else None
    observation = Observation(model, ends)
    if composite is not None:
        check_text_alone(source, observation, tokenizer.eos_token_id)
    refuse_looking_ahead(source, observation)
    layout = read_layout(model, observation)
    if gradient_checkpointing:
        _checkpoint_activations(model)
    base = base if adapter is not None else None
    return LoadedModel(model, tokenizer, layout, tuple(notes), composite, base)


def _adapt(
    model: PreTrainedModel,
    adapter: AdapterSettings,
    composite: Composite | None,
    source: str,
    *,
    seed: int,
    stages: int,
) -> None:
    """Put the adapter of `[adapter]` into a base."""
    if composite is not None:
        raise ModelError(
            f"[adapter] {source}: a model with a vision or audio part; an adapter of its text part "
            "alone would fit no base that peft loads",
            "tune its weights: take [adapter] away",
        )
    if adapter.source is not None:
        load_adapter(model, inspect_adapter(Path(adapter.source)))
    else:
        finished = stages - 1 if adapter.per_stage == "new" else 0
        add_adapter(model, adapter, seed=seed, finished=finished)


def save_model(
    loaded: LoadedModel, path: Path, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Write a model and its tokenizer into a new or empty folder.

    The model is a plain Hugging Face directory, or a plain PEFT directory if it has an adapter.
    `weights` is its whole state dict, if its own parameters are divided among ranks.
    """
    if loaded.base is not None:
        write_adapter(loaded.model, path, loaded.base.source, loaded.base.revision)
        loaded.tokenizer.save_pretrained(path)
        return
    loaded.model.config.use_cache = True
    try:
        if loaded.composite is None:
            loaded.model.save_pretrained(path, state_dict=weights)
        else:
            loaded.composite.write(path, loaded.model)
        loaded.tokenizer.save_pretrained(path)
        write_stops(loaded.model, path)
    finally:
        loaded.model.config.use_cache = False


def _checkpoint_activations(model: Any) -> None:
    # Early versions of transformers 5 have only the older name.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    # Reentrant checkpointing loses all gradients when the bottom blocks are frozen
    # (transformers #21381).
    enable({"use_reentrant": False})
    # For adapters, transformers then makes the embeddings' output require a gradient, so backward
    # would run through the frozen blocks down to it.
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
        # Profile loading has already replaced an installed package source by its path.
        raise ModelError(f"[model] source: there is no {source}", package_hint(source))
    place = Path(source).expanduser()
    if not place.is_absolute() and (base_dir / place).exists():
        return base_dir / place
    looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1
    if (looks_local or place.suffix == ".gguf") and not place.exists():
        near = _nearest_entry(place if place.is_absolute() else base_dir / place)
        raise ModelError(f"[model] {source}: no such file or directory", near)
    return place


def model_folder(settings: ModelSettings, base_dir: Path) -> Path:
    """Return the directory or GGUF file with a profile's model, downloading a hub model.

    Raises:
        ModelError: it doesn't exist or can't be reached.
    """
    place = _resolve(settings.source, base_dir)
    if place.exists():
        return place
    return fetch_snapshot(
        settings.source, settings.revision, trusts_code=settings.trust_remote_code
    )


def _nearest_entry(place: Path) -> str:
    if not place.parent.is_dir():
        return f"{place.parent} doesn't exist either"
    names = [entry.name for entry in place.parent.iterdir()]
    near = nearest_name(place.name, names)
    return f"did you mean '{place.parent / near}'?" if near else "check [model] source"


def _pretrained_model(
    settings: ModelSettings,
    place: Path,
    compute: ComputeSetting,
    notes: list[str],
    more: dict[str, Any],
) -> tuple[PreTrainedModel, Path]:
    """Load a directory or a hub id.

    Returns:
        The model and the directory that it was loaded from. Notes for the user are appended to
        `notes`. `more` are further options of transformers' loader.
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
        # Custom model code may not build without its weights.
        if type(config).__module__.startswith("transformers."):
            refuse_size(source, files, config, loader, compute.weights_dtype.itemsize)
        model, report = loader.from_pretrained(
            str(folder),
            dtype=compute.weights_dtype,
            use_safetensors=True,
            output_loading_info=True,
            # Reported below by name; transformers' own error doesn't name the tensor.
            ignore_mismatched_sizes=True,
            **options,
            **more,
        )
    refuse_incomplete(source, model, report)
    refuse_unplaced(source, model, report["unexpected_keys"])
    ignored = find_ignored(model, files.tensors)
    if ignored:
        notes.append(
            f"the model that is written is without {counted(len(ignored), 'tensor')} of {source}: "
            "their part (multi-token prediction, for instance) is left out by transformers: "
            f"{', '.join(ignored[:3])}{' …' if len(ignored) > 3 else ''}"
        )
    return cast("PreTrainedModel", model), folder


def _load_gguf(place: Path, missing_hint: str) -> PreTrainedModel:
    """Load a GGUF file and copy its dequantized weights into a plain model of the same config.

    A model that transformers loads from GGUF stays marked as quantized and refuses
    `save_pretrained`.

    Args:
        place: the file.
        missing_hint: the error hint if the file doesn't exist.

    Raises:
        ModelError: the file can't be read, or the extra for GGUF isn't installed.
    """
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    if not place.is_file():
        raise ModelError(f"[model] {place}: no such file", missing_hint)
    # transformers draws its own progress bar while dequantizing.
    with (
        model_faults(lambda error: _gguf_failed(place, error)),
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


def _gguf_failed(place: Path, error: BaseException) -> ModelError:
    return ModelError(
        f"[model] {place}: can't be loaded as GGUF: {first_line(error)}",
        "install the extra: pip install 'sf-tui[gguf]'"
        if isinstance(error, ImportError)
        else "transformers must know the file's architecture and quantization",
    )
