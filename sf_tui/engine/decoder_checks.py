"""Checks that a model continues a text token by token, and how long a row it can take.

Refused are models whose tokens see what comes after them, and models that count positions in one
way when tuned and in another when they generate: both would be probed and tuned without an error,
and neither would answer as it was probed. Knows tables of positions and configurations; knows no
rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from sf_tui.engine.composite import text_part_name
from sf_tui.engine.forward import takes_position_ids
from sf_tui.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from sf_tui.engine.observation import Observation

_SUPPORTED = "sf tunes decoder-only language models (GPT-NeoX, Llama, GPT-2, Qwen, Mistral, …)"

# What is left of a zero where a kernel computes it another way: far below any weight's share.
_NOTHING = 1e-6

# `max_position_embeddings` covers `n_positions` and the like by transformers' attribute maps; the
# others are for configuration classes without such a map.
_CONFIG_NAMES = ("max_position_embeddings", "n_positions", "max_target_positions", "max_seq_len")
_TABLE_NAMES = ("wpe", "pos")
_OPEN_ENDED = ("rotary", "rope", "alibi", "sinusoidal", "relative")

# Properties of classes that no config shows.
_NO_CONTINUATION = {
    "blt": "reads a text as patches of bytes, in an encoder and a decoder of its own",
    "cpmant": "counts positions from the end of the row, so that every further token moves all",
    "gemma4_assistant": "drafts tokens from the states of another model",
    "gemma4_unified_assistant": "drafts tokens from the states of another model",
    "reformer": "is trained on rows of whole chunks alone",
    "xlnet": "predicts a token at its own place, from those around it",
}


def refuse_kind(source: str, config: PreTrainedConfig) -> None:
    """Refuse a model whose config shows that it doesn't continue a row from left to right.

    Raises:
        ModelError: it is an encoder, whose tokens see the whole row, or of a family that works in
            another way; the message says which.
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
    """Refuse a model that counts positions in one way by itself and in another in `generate`.

    RoBERTa and its relatives count from behind the row of their padding; `generate` counts from 0
    for every model that takes `position_ids`.

    Raises:
        ModelError: the tuned model would not be the one that generates.
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
    """Refuse a model whose first token's logits depend on the tokens behind it.

    In a model that continues a text, the gradient of those logits ends at the first token's
    embedding, whatever the weights are. A model that can't run on a few tokens is not judged.

    Args:
        source: the model as the profile names it, for messages.
        observation: of a pass through the model.

    Raises:
        ModelError: they do.
    """
    reach = observation.reach
    if reach is not None and bool((reach[1:] > _NOTHING * reach[0]).any()):
        raise ModelError(
            f"[model] {source}: a token of {type(observation.model).__name__} sees what comes "
            "after it, so that it would read the answer off the row",
            _SUPPORTED,
        )


def made_for(model: PreTrainedModel) -> int | None:
    """Return the number of tokens that a model's positions were made for; None if unknown."""
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
    """Return the most tokens that a model can take at all; None if there is no limit.

    A configuration's number is a limit unless the model computes positions.
    """
    table = position_table(model)
    if table is not None:
        return table
    computed = any(
        word in type(module).__name__.lower() for module in model.modules() for word in _OPEN_ENDED
    )
    return None if computed else made_for(model)


def position_table(model: PreTrainedModel) -> int | None:
    """Return the number of tokens that the smallest table of positions covers; None without one.

    Tables are learned embeddings, or the fixed sines and cosines of GPT-J and CodeGen. Some keep
    their first rows for padding: `offset` (OPT, BioGPT) or those up to `padding_idx` (RoBERTa).
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
    """Return the rows of a model's position table before the first token's; 0 if there are none.

    Only rows up to a table's `padding_idx` count, which the model itself counts from.
    """
    return max(
        (table.padding_idx + 1 for table in _tables(model) if table.padding_idx is not None),
        default=0,
    )


def _tables(model: PreTrainedModel) -> list[nn.Embedding]:
    inputs = model.get_input_embeddings()
    # A vision or audio part has tables of its own.
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
