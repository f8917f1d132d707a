"""Builds models with random weights, and counts a model's weights before it is built.

Weights are counted on the meta device, where a tensor uses no memory. Modules still cost time and
memory there, so the size of a deep model is extrapolated from a few blocks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch

from sf_tui.engine.batches import derive_seed
from sf_tui.errors import ModelError, nearest_name
from sf_tui.profile import ModelSettings
from sf_tui.tasks.model_source import first_line, model_faults
from sf_tui.vocabulary.sizes import format_bytes

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

MOST_MODULES = 10_000
"""Largest number of blocks, or of experts per block; the deepest published models have 1,000."""

# Keys that set a number of modules, each of which takes time to build. Tensor sizes don't.
_MODULES = re.compile(r"layer|expert|depth|stack|(^|_)blocks")
_NOT_MODULES = re.compile(r"size|dim|idx|index|every|interval|period|_per_")

_FEW = 8
"""Blocks to build for extrapolating a deep model; the periods of hybrid models usually divide 8."""


# Older names of rotary settings. config.json files and papers use them and transformers still
# accepts them, but no config class lists them.
_ROTARY_NAMES = frozenset(
    {"rotary_pct", "rotary_emb_base", "rope_theta", "rope_scaling", "partial_rotary_factor"}
)

_counted: dict[tuple[type, str], int] = {}
"""Scalars by config. Counting takes as long as building a small model, and a process that plays
several runs mostly builds the same one."""


def random_model(
    settings: ModelSettings, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    """Build a model with random weights from a profile's `[model.config]`.

    Args:
        settings: the model's settings.
        tokenizer: provides the vocabulary size and the ids of special tokens.
        seed: the run's seed.

    Raises:
        ModelError: the config is invalid, or its model doesn't fit in memory.
    """
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM

    def make_config(keys: Mapping[str, Any]) -> PretrainedConfig:
        return random_config(settings.model_copy(update={"config": dict(keys)}), tokenizer)

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


def random_config(settings: ModelSettings, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """Return the config of a random model from a profile's `[model.config]`.

    Raises:
        ModelError: the config is invalid.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    given = dict(settings.config)
    kind = str(given.pop("model_type", ""))
    # Use only the names: the mapping itself would import every model's module (1 to 2 seconds).
    known = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    if kind not in known:
        near = nearest_name(kind, known)
        raise ModelError(
            f"[model.config] model_type '{kind}' is no decoder that transformers knows",
            f"did you mean '{near}'?" if near else "for example gpt_neox or llama",
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
                near = nearest_name(key, names)
                raise ModelError(
                    f"[model.config] unknown key '{key}' for a {kind} model",
                    f"did you mean '{near}'?" if near else "see the model's config class",
                )
        ids = {
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        return AutoConfig.for_model(kind, **(ids | given))


def memory_bytes() -> int | None:
    """Return the machine's memory in bytes, or None if the system doesn't report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def count_weights(build: Callable[[], PreTrainedModel], *, buffers: bool = False) -> int:
    """Count the scalars of a model by building it on the meta device.

    Args:
        build: builds the model.
        buffers: also count its buffers, such as a causal mask over all positions.
    """
    state = torch.get_rng_state()
    with torch.device("meta"):
        model = build()
    torch.set_rng_state(state)
    count = sum(weight.numel() for weight in model.parameters())
    return count + (sum(buffer.numel() for buffer in model.buffers()) if buffers else 0)


def refuse_memory(where: str, weights: int, itemsize: int) -> None:
    """Refuse a model whose weights alone need more memory than the machine has.

    Args:
        where: start of the error message: the model, or the key that describes it.
        weights: number of scalars.
        itemsize: bytes per scalar in memory.

    Raises:
        ModelError: it doesn't fit.
    """
    memory = memory_bytes()
    if memory is not None and weights * itemsize > memory:
        raise ModelError(
            f"{where}: {weights:,} weights need {format_bytes(weights * itemsize)}, "
            f"this machine has {format_bytes(memory)}",
            'use a machine with more memory, a smaller model, or [model] dtype = "bfloat16"',
        )


def refuse_modules(given: Mapping[str, Any]) -> None:
    """Refuse a `[model.config]` whose modules would take hours to build.

    Raises:
        ModelError: a key sets more than `MOST_MODULES` modules.
    """
    for key, value in _whole_numbers(given):
        name = key.rpartition(".")[2]
        if value > MOST_MODULES and _MODULES.search(name) and not _NOT_MODULES.search(name):
            raise ModelError(
                f"[model.config] {key} = {value:,}: at most {MOST_MODULES:,}",
                f"each is built by itself; lower {key}",
            )


def refuse_random_size(
    given: Mapping[str, Any],
    make_config: Callable[[Mapping[str, Any]], PretrainedConfig],
    build: Callable[[PretrainedConfig], PreTrainedModel],
) -> None:
    """Refuse a `[model.config]` whose model doesn't fit in the machine's memory.

    Args:
        given: the profile's keys, already checked by `refuse_modules`.
        make_config: builds a config from such keys.
        build: builds a model from a config.

    Raises:
        ModelError: the model doesn't fit; the message names the largest number in the config.
    """
    config = make_config(given)
    largest = max(_whole_numbers(given), key=lambda pair: pair[1], default=("model_type", 0))
    where = f"[model.config] {largest[0]} = {largest[1]:,}"

    def counted(of: PretrainedConfig) -> int:
        key = (type(of), of.to_json_string(use_diff=False))
        if key not in _counted:
            _counted[key] = count_weights(lambda: build(of), buffers=True)
        return _counted[key]

    try:
        blocks = getattr(config.get_text_config(), "num_hidden_layers", 0)
        key = next((key for key in _block_keys(config) if key in given), None)
        lists = any(isinstance(value, list) for value in given.values())
        # A list has an entry per block: it bounds their number, and doesn't match fewer blocks.
        if not isinstance(blocks, int) or blocks <= 4 * _FEW or key is None or lists:
            weights = counted(config)
        else:
            few, more = (counted(make_config({**given, key: n * _FEW})) for n in (1, 2))
            weights = few + (more - few) * (blocks - _FEW) // _FEW
    except RuntimeError as error:
        # torch counts a tensor's bytes in 64 bits.
        if "overflow" not in str(error):
            raise
        memory = memory_bytes()
        has = f"; this machine has {format_bytes(memory)}" if memory is not None else ""
        raise ModelError(
            f"{where}: a tensor of the model would need more than {format_bytes(2**63)}{has}",
            "lower it, or the other sizes in [model.config]",
        ) from error
    refuse_memory(where, weights, torch.get_default_dtype().itemsize)


def _block_keys(config: PretrainedConfig) -> tuple[str, str]:
    return "num_hidden_layers", config.attribute_map.get("num_hidden_layers", "num_hidden_layers")


def _whole_numbers(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, int]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _whole_numbers(value, f"{above}{key}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            yield f"{above}{key}", value
