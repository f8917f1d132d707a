"""Refuses models that can't be tuned, because of their weights or their architecture.

Reports, before the first step, weights that would be lost, are missing or are not finite, models
whose tokens attend to later tokens, and rows longer than the model supports.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sf_tui.engine.composite import text_part_name
from sf_tui.engine.forward import takes_position_ids
from sf_tui.engine.model_files import ModelFiles
from sf_tui.engine.random_model import count_weights, refuse_memory
from sf_tui.errors import ModelError
from sf_tui.tasks.model_source import first_line, model_faults
from sf_tui.vocabulary.sizes import counted

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from sf_tui.engine.observation import Observation

# Constants that older checkpoints store with the weights; the model computes them.
_COMPUTED = re.compile(
    r"(rotary_emb\.(inv_freq|cos_cached|sin_cached)|\.inv_freq|position_ids|\.masked_bias"
    r"|\.attn\.bias|\.attention\.bias|embed_positions\.weights|\.version|_extra_state"
    r"|_float_tensor)$"
)

_FAR_LARGER = 10
"""A config with more than this many times the files' weights is refused before building."""

_CHUNK = 1 << 24
"""Scalars checked at a time: 64 MB of float32, plus 16 MB for the flags."""


def refuse_size(source: str, files: ModelFiles, config: Any, auto: Any, itemsize: int) -> None:
    """Refuse a config whose model is much larger than the stored weights, before building it.

    Args:
        source: the model as named in the profile.
        files: the directory.
        config: the parsed config.
        auto: the class that builds a model from the config.
        itemsize: bytes per weight in memory.

    Raises:
        ModelError: config.json and the weights belong to different models, or the weights alone
            need more memory than the machine has.
    """
    stored, tensors = files.elements, len(files.tensors)
    text = config.get_text_config()
    blocks = getattr(text, "num_hidden_layers", None)
    if isinstance(blocks, int) and blocks > tensors:
        raise _too_large(source, counted(blocks, "block"), counted(tensors, "tensor"))
    # Each of these is a dimension of some weight.
    for key in ("vocab_size", "hidden_size"):
        length = getattr(text, key, None)
        if isinstance(length, int) and length > stored:
            raise _too_large(source, f"{key} = {length}", f"{stored} numbers")
    # Non-auto classes (composite models) have no public method to build from a config.
    build = getattr(auto, "from_config", None) or auto._from_config
    with model_faults(lambda error: loading_failed(source, error)):
        described = count_weights(lambda: build(config))
    # Smaller differences are reported by tensor after loading.
    if described > _FAR_LARGER * stored:
        raise _too_large(source, f"a model of {described:,} weights", f"{stored:,}")
    refuse_memory(f"[model] {source}", described, itemsize)


def loading_failed(source: str, error: BaseException) -> ModelError:
    """Return the error for a directory that transformers can't load."""
    return ModelError(
        f"[model] {source}: can't be loaded: {first_line(error)}",
        "check that the directory is complete and its files undamaged",
    )


def refuse_incomplete(source: str, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Refuse a directory whose weights don't fill the model.

    Args:
        source: the model as named in the profile.
        model: the loaded model.
        report: transformers' loading report.

    Raises:
        ModelError: a tensor is missing or has another shape; the message names up to three.
    """
    # Exclude only weights that this config ties: an untied output projection must have weights.
    tied = set(model.all_tied_weights_keys)
    wrong = [f"{name} is missing" for name in sorted(set(report["missing_keys"]) - tied)]
    wrong += [
        f"{name} has another shape"
        for name in sorted(str(key[0]) for key in report["mismatched_keys"])
    ]
    if wrong:
        raise ModelError(
            f"[model] {source}: the weights don't fill the model: {_first(wrong)}",
            "config.json and the weights belong to different models, or a file is missing",
        )


def refuse_unplaced(source: str, model: PreTrainedModel, names: Iterable[str]) -> None:
    """Refuse a directory with weights that have no place in the model.

    Args:
        source: the model as named in the profile.
        model: the loaded model.
        names: tensors in the files that were not loaded.

    Raises:
        ModelError: one of them is a weight; the message names up to three.
    """
    tied = set(model.all_tied_weights_keys)
    unplaced = sorted(name for name in names if name not in tied and not _COMPUTED.search(name))
    if unplaced:
        raise ModelError(
            f"[model] {source}: config.json has no place for some of the weights, which would be "
            f"lost: {_first(unplaced)}",
            "config.json and the weights belong to different models, or the model has a part that "
            "sf doesn't keep (a head for another purpose, a vision part)",
        )


def find_ignored(model: PreTrainedModel, names: Collection[str]) -> list[str]:
    """Return the sorted names of weights that the model's class ignores by design.

    DeepSeek-V3, GLM-4.5 and Qwen3-Next have layers for multi-token prediction, which transformers
    does not implement.
    """
    held: Any = model
    patterns = [re.compile(pattern) for pattern in held._keys_to_ignore_on_load_unexpected or ()]
    known = set(model.state_dict())
    return sorted(
        name
        for name in names
        if name not in known
        and not _COMPUTED.search(name)
        and any(pattern.search(name) for pattern in patterns)
    )


def refuse_not_finite(source: str, model: PreTrainedModel) -> None:
    """Refuse weights that hold NaN or inf.

    Args:
        source: the model as named in the profile.
        model: the model, in its training dtype.

    Raises:
        ModelError: a tensor has such values; the message names the first, with counts.
    """
    wrong = []
    for name, tensor in model.named_parameters():
        nans, infinite = count_not_finite(tensor.detach())
        if nans or infinite:
            wrong.append((name, nans, infinite))
    if not wrong:
        return
    name, nans, infinite = wrong[0]
    what = " and ".join(
        text for count, text in ((nans, f"{nans} NaN"), (infinite, f"{infinite} inf")) if count
    )
    others = f" ({counted(len(wrong) - 1, 'other tensor')} too)" if len(wrong) > 1 else ""
    half = model.dtype == torch.float16 and not any(entry[1] for entry in wrong)
    raise ModelError(
        f"[model] {source}: tensor '{name}' holds {what}{others}",
        "the weights are too large for float16, or were when they were saved: use [model] dtype = "
        '"bfloat16" or "float32", or other weights'
        if half
        else "the weights are damaged or their training diverged: use other weights",
    )


def count_not_finite(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the number of NaNs and the number of infinities in a tensor of any shape."""
    if not tensor.is_floating_point() or not tensor.numel():
        return 0, 0
    # One pass without a copy: the extremes reveal NaN and inf.
    low, high = torch.aminmax(tensor)
    if bool(torch.isfinite(low)) and bool(torch.isfinite(high)):
        return 0, 0
    nans = infinite = 0
    for part in tensor.reshape(-1).split(_CHUNK):
        nans += int(part.isnan().sum())
        infinite += int(part.isinf().sum())
    return nans, infinite


def _too_large(source: str, described: str, held: str) -> ModelError:
    return ModelError(
        f"[model] {source}: can't be loaded: config.json describes {described}, the weight files "
        f"hold {held}",
        "config.json and the weights belong to different models: download both again",
    )


def _first(names: list[str]) -> str:
    more = " …" if len(names) > 3 else ""
    return f"{', '.join(name[:200] for name in names[:3])}{more} ({len(names)} in all)"


_SUPPORTED = "sf tunes decoder-only language models (GPT-NeoX, Llama, GPT-2, Qwen, Mistral, …)"

# Rounding tolerance for a gradient that should be 0; far below any real dependency.
_NOTHING = 1e-6

# transformers' attribute maps translate `n_positions` and the like to `max_position_embeddings`;
# the other names are for config classes without such a map.
_CONFIG_NAMES = ("max_position_embeddings", "n_positions", "max_target_positions", "max_seq_len")
_TABLE_NAMES = ("wpe", "pos")
_OPEN_ENDED = ("rotary", "rope", "alibi", "sinusoidal", "relative")

# Properties of model classes that no config reveals.
_NO_CONTINUATION = {
    "blt": "reads a text as patches of bytes, in an encoder and a decoder of its own",
    "cpmant": "counts positions from the end of the row, so that every further token moves all",
    "gemma4_assistant": "drafts tokens from the states of another model",
    "gemma4_unified_assistant": "drafts tokens from the states of another model",
    "reformer": "is trained on rows of whole chunks alone",
    "xlnet": "predicts a token at its own place, from those around it",
}


def refuse_kind(source: str, config: PreTrainedConfig) -> None:
    """Refuse a model whose config shows that it doesn't generate from left to right.

    Raises:
        ModelError: it is an encoder, whose tokens attend to the whole row, or belongs to an
            unsupported family; the message gives the reason.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    kind = config.model_type
    if kind in _NO_CONTINUATION:
        raise ModelError(
            f"[model] {source}: a {kind} model {_NO_CONTINUATION[kind]}",
            _SUPPORTED,
        )
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if masked and not getattr(config, "is_decoder", False):
        raise ModelError(
            f"[model] {source}: a {kind} encoder, whose tokens see what comes after", _SUPPORTED
        )


def refuse_other_positions(source: str, model: PreTrainedModel) -> None:
    """Refuse a model that numbers positions differently in `forward` and in `generate`.

    RoBERTa and its relatives start after their padding row; `generate` starts at 0 for every
    model that accepts `position_ids`.

    Raises:
        ModelError: the positions in training and generation would differ.
    """
    first = padding_rows(model)
    if first and takes_position_ids(model):
        raise ModelError(
            f"[model] {source}: {type(model).__name__} counts positions from {first} where it is "
            "tuned and from 0 where it generates (transformers' `generate` says so), so that it "
            "would not answer as it was tuned",
            _SUPPORTED,
        )


def refuse_looking_ahead(source: str, observation: Observation) -> None:
    """Refuse a model whose first token's logits depend on later tokens.

    In a causal model, the gradient of those logits reaches only the first token's embedding,
    whatever the weights are. A model that can't run on a few tokens is not checked.

    Args:
        source: the model as named in the profile, for messages.
        observation: a recorded pass through the model.

    Raises:
        ModelError: the logits depend on later tokens.
    """
    reach = observation.reach
    if reach is not None and bool((reach[1:] > _NOTHING * reach[0]).any()):
        raise ModelError(
            f"[model] {source}: a token of {type(observation.model).__name__} sees what comes "
            "after it, so that it would read the answer off the row",
            _SUPPORTED,
        )


def made_for(model: PreTrainedModel) -> int | None:
    """Return the number of tokens that a model's positions were designed for; None if unknown."""
    table = position_table(model)
    if table is not None:
        return table
    config = model.config.get_text_config(decoder=True)
    for name in _CONFIG_NAMES:
        limit = getattr(config, name, None)
        if isinstance(limit, int) and limit > 0:
            return limit
    return None


def position_end(model: PreTrainedModel) -> int | None:
    """Return the largest number of tokens that a model accepts; None if there is no limit.

    The config's number is a limit unless the model computes positions.
    """
    table = position_table(model)
    if table is not None:
        return table
    computed = any(
        word in type(module).__name__.lower() for module in model.modules() for word in _OPEN_ENDED
    )
    return None if computed else made_for(model)


def position_table(model: PreTrainedModel) -> int | None:
    """Return the number of tokens that the smallest position table covers; None without a table.

    Tables are learned embeddings, or the fixed sines and cosines of GPT-J and CodeGen. Some reserve
    their first rows for padding: `offset` rows (OPT, BioGPT), or up to `padding_idx` (RoBERTa).
    """
    part = text_part_name(model)
    found = [table.num_embeddings - _rows_for_padding(table) for table in _tables(model)]
    found += [
        len(buffer)
        for name, buffer in model.named_buffers()
        if name.rpartition(".")[2] == "embed_positions" and name.startswith(part)
    ]
    return min(found, default=None)


def padding_rows(model: PreTrainedModel) -> int:
    """Return the number of rows in a model's position table before the first token's row.

    Counts only rows up to a table's `padding_idx`, where the model's own numbering starts.
    """
    return max(
        (table.padding_idx + 1 for table in _tables(model) if table.padding_idx is not None),
        default=0,
    )


def _tables(model: PreTrainedModel) -> list[nn.Embedding]:
    inputs = model.get_input_embeddings()
    # A vision or audio part has its own tables.
    part = text_part_name(model)
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and module is not inputs
        and name.startswith(part)
        and any(word in name.rpartition(".")[2].lower() for word in _TABLE_NAMES)
    ]


def _rows_for_padding(table: nn.Embedding) -> int:
    if hasattr(table, "offset"):
        return int(getattr(table, "offset", 0))
    return 0 if table.padding_idx is None else table.padding_idx + 1
