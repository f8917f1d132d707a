"""The size of a profile's model from its files, headers and config; no weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sf_tui.engine.model_files import inspect_directory
from sf_tui.engine.random_model import count_weights, random_config
from sf_tui.errors import ModelError
from sf_tui.profile import ModelSettings, starter_directory
from sf_tui.profile.names import RANDOM_MODEL
from sf_tui.profile.sources import STARTER_PREFIX
from sf_tui.tasks.model_source import first_line, load_tokenizer, model_faults
from sf_tui.vocabulary.sizes import counted

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class ModelSize:
    """What the estimates and the suggested settings need to know of a model."""

    kind: str
    """transformers' model type, such as `llama`."""
    parameters: int
    hidden_size: int
    layers: int
    vocabulary: int
    tied: bool
    """Whether the output projection is the input embedding."""
    max_length: int | None
    """The longest row in tokens that its positions allow; None if unknown."""
    is_random: bool = False
    """Whether its weights are new: trained from scratch."""

    @property
    def block_parameters(self) -> int:
        """Parameters without the embedding and the output matrix."""
        matrices = 1 if self.tied else 2
        return max(self.parameters - matrices * self.vocabulary * self.hidden_size, 1)

    def __str__(self) -> str:
        return (
            f"{self.kind}, {short_count(self.parameters)} parameters, "
            f"{counted(self.layers, 'layer')}, hidden size {self.hidden_size}"
        )


def short_count(count: float) -> str:
    """Return a number in three digits with its unit: `1.05 M`, `480`."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if count >= size:
            value = count / (1e3 if size == 1e4 else size)
            return f"{value:.3g}{unit}" if value < 1000 else f"{value:.0f}{unit}"
    return f"{count:,.0f}"


def is_local(settings: ModelSettings, base_dir: Path) -> bool:
    """Return whether a model is on this machine by its name: not a hub id."""
    return (
        settings.source == RANDOM_MODEL
        or settings.source.startswith(STARTER_PREFIX)
        or (base_dir / Path(settings.source).expanduser()).exists()
    )


def read_tokenizer(settings: ModelSettings, base_dir: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a profile's model.

    Raises:
        ModelError: it can't be loaded.
    """
    source = settings.tokenizer or settings.source
    if source == RANDOM_MODEL:
        source = "biography"
    return load_tokenizer(
        source,
        base_dir,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
    )


def read_model_size(
    settings: ModelSettings, base_dir: Path, tokenizer: PreTrainedTokenizerBase
) -> ModelSize:
    """Return a model's size.

    A directory is counted by its files' headers; a GGUF file and a hub id by their config, on the
    meta device. Of a hub id at most the config is downloaded.

    Raises:
        ModelError: the directory can't be loaded, or the config isn't available.
    """
    source = settings.source
    if source == RANDOM_MODEL:
        config = random_config(settings, tokenizer)
        return _size(config, _count(source, config), is_random=True)
    place = (
        starter_directory(source.removeprefix(STARTER_PREFIX))
        if source.startswith(STARTER_PREFIX)
        else base_dir / Path(source).expanduser()
    )
    options: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    if place.is_dir():
        files = inspect_directory(source, place, trusts_code=settings.trust_remote_code)
        config = _config(source, str(place), local_files_only=True, **options)
        return _size(config, files.elements)
    if place.suffix == ".gguf":
        config = _config(source, str(place.parent), gguf_file=place.name)
    else:
        config = _config(source, source, revision=settings.revision or "main", **options)
    return _size(config, _count(source, config))


def _config(source: str, name: str, **options: Any) -> PretrainedConfig:
    from transformers import AutoConfig

    with model_faults(lambda error: _no_config(source, error)):
        config: PretrainedConfig = AutoConfig.from_pretrained(name, **options)
    return config


def _no_config(source: str, error: BaseException) -> ModelError:
    return ModelError(
        f"[model] {source}: its config can't be read: {first_line(error)}",
        "a hub id needs a network or a filled cache, a GGUF file the extra: "
        "pip install 'sf-tui[gguf]'",
    )


def _count(source: str, config: PretrainedConfig) -> int:
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    with model_faults(lambda error: _no_config(source, error)):
        return count_weights(lambda: auto.from_config(config))


def _size(config: PretrainedConfig, parameters: int, *, is_random: bool = False) -> ModelSize:
    text: Any = config.get_text_config(decoder=True)
    positions = getattr(text, "max_position_embeddings", None)
    return ModelSize(
        kind=str(config.model_type),
        parameters=parameters,
        hidden_size=int(getattr(text, "hidden_size", 0) or 0),
        layers=int(getattr(text, "num_hidden_layers", 0) or 0),
        vocabulary=int(getattr(text, "vocab_size", 0) or 0),
        tied=bool(getattr(text, "tie_word_embeddings", False)),
        max_length=positions if isinstance(positions, int) and positions > 0 else None,
        is_random=is_random,
    )
