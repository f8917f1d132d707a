"""Loads a model: random weights, a directory, a hub id, a GGUF file or a starter.

Pickled weights are never loaded, and a model's own code runs only if the profile allows it. Every
failure raises a `ModelError` that names the source.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from sf_tui.engine.composite import (
    Composite,
    check_text_alone,
    class_to_load,
    has_text_part,
    take_text_part,
)
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.generation_end import write_stops
from sf_tui.engine.layout import ModelLayout, read_layout
from sf_tui.engine.model_files import INDEX, SINGLE, inspect_directory, shards_of
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
from sf_tui.profile.sources import is_package_source, package_hint
from sf_tui.tasks.model_source import first_line, load_tokenizer, model_faults

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Small files come first: they determine which weights to download. A repository often holds the
# same weights twice (Mistral's consolidated.safetensors); "*.safetensors" would fetch both.
_SMALL = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
_CODE = ("*.py",)


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
) -> LoadedModel:
    """Load a profile's model and tokenizer onto the device.

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
    if source == "random":
        tokenizer = _tokenizer_of(settings, settings.tokenizer or "biography", base_dir)
        model = random_model(settings, tokenizer, seed)
    else:
        place = _resolve(source, base_dir)
        if place.suffix == ".gguf":
            model = _load_gguf(place, _nearest_entry(place))
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
    # The end token is never an image or audio placeholder.
    ends = [tokenizer.eos_token_id] * 4 if composite is not None else None
    observation = Observation(model, ends)
    if composite is not None:
        check_text_alone(source, observation, tokenizer.eos_token_id)
    refuse_looking_ahead(source, observation)
    layout = read_layout(model, observation)
    if gradient_checkpointing:
        _checkpoint_activations(model)
    return LoadedModel(model, tokenizer, layout, tuple(notes), composite)


def save_model(loaded: LoadedModel, path: Path) -> None:
    """Write weights and tokenizer as a Hugging Face directory; `path` is new or empty."""
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
    return _fetch_snapshot(
        settings.source, settings.revision, trusts_code=settings.trust_remote_code
    )


def _nearest_entry(place: Path) -> str:
    if not place.parent.is_dir():
        return f"{place.parent} doesn't exist either"
    names = [entry.name for entry in place.parent.iterdir()]
    near = nearest_name(place.name, names)
    return f"did you mean '{place.parent / near}'?" if near else "check [model] source"


def _pretrained_model(
    settings: ModelSettings, place: Path, compute: ComputeSetting, notes: list[str]
) -> tuple[PreTrainedModel, Path]:
    """Load a directory or a hub id.

    Returns:
        The model and the directory that it was loaded from. Notes for the user are appended to
        `notes`.
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
            folder = _fetch_snapshot(source, settings.revision, trusts_code=trusts_code)
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


def _fetch_snapshot(source: str, revision: str | None, *, trusts_code: bool) -> Path:
    """Return the local cache directory of a hub model, downloading it if necessary.

    transformers would download any file that a repository's index names, pickles included. This
    downloads only configs, tokenizer files and safetensors. Without a network, the cache is used.

    Args:
        source: the hub id.
        revision: branch, tag or commit; None for the main branch.
        trusts_code: whether to download the repository's Python files as well.

    Raises:
        ModelError: the model doesn't exist or can't be reached, or its index names a file that is
            not a safetensors file.
    """
    small = [*_SMALL, *(_CODE if trusts_code else ())]
    with model_faults(lambda error: _not_reached(source, error)):
        folder = _download(source, revision, [*small, SINGLE])
        # Download the rest from the same commit, even if the branch moves meanwhile.
        commit = folder.name
        if not (folder / SINGLE).exists() and (folder / INDEX).exists():
            home = folder.resolve()
            names = [str(path.relative_to(folder)) for path in shards_of(folder / INDEX)]
            if not all((home / name).exists() for name in names):
                # The hub client treats names as patterns.
                folder = _download(source, commit, [_escaped(name) for name in names])
    return folder


def _download(source: str, revision: str | None, patterns: Sequence[str]) -> Path:
    # Deferred: this imports the hub's HTTP client.
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, revision=revision, allow_patterns=list(patterns)))


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _not_reached(source: str, error: BaseException) -> ModelError:
    return ModelError(
        f"[model] {source}: can't be loaded: {first_line(error)}",
        "no directory of that name; as a hub id it needs the network or a filled cache "
        "(and a license accepted where the model asks for one)",
    )


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
