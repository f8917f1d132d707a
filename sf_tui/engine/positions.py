"""How many tokens a row may have for a model: what its positions were made for, and where they end.

Knows tables of positions and configurations; knows no rows. A model with a table fails beyond its
end. One with rotary or relative positions goes on past what its configuration names, at unknown
quality.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from sf_tui.engine.composite import text_part_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# `max_position_embeddings` stands for `n_positions` and the like by transformers' attribute maps;
# the others are read where a configuration class has no such map.
_CONFIG_NAMES = ("max_position_embeddings", "n_positions", "max_target_positions", "max_seq_len")
_TABLE_NAMES = ("wpe", "pos")
_OPEN_ENDED = ("rotary", "rope", "alibi", "sinusoidal", "relative")


def made_for(model: PreTrainedModel) -> int | None:
    """Return the tokens that a model's positions were made for; None where nothing says."""
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
    """Return the most tokens that a model can take at all; None where it has no end.

    A configuration's number is an end unless the model computes positions for any place.
    """
    table = position_table(model)
    if table is not None:
        return table
    computed = any(
        word in type(module).__name__.lower() for module in model.modules() for word in _OPEN_ENDED
    )
    return None if computed else made_for(model)


def position_table(model: PreTrainedModel) -> int | None:
    """Return the tokens that the smallest table of positions reaches; None without one.

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
    """Return the rows of a model's position table that stand before its first token's; 0 if none.

    Those only that come of a table's `padding_idx`, which the model itself counts from.
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
