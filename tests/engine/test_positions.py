"""How long a row may be: learned and fixed tables end, computed positions do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sf_tui.engine.loading import LoadedModel
from sf_tui.engine.weight_check import made_for, position_end

SIZES = {"n_embd": 16, "n_layer": 1, "n_head": 4, "n_positions": 16}
LONG = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
}
WITH_TABLE: dict[str, dict[str, Any]] = {
    "gpt2": SIZES,
    "gptj": {**SIZES, "rotary_dim": 4},
    "codegen": {**SIZES, "rotary_dim": 4},
    "opt": {**LONG, "word_embed_proj_dim": 16, "ffn_dim": 16},
    "biogpt": LONG,
    "roberta": {**LONG, "is_decoder": True, "pad_token_id": 1, "max_position_embeddings": 18},
    "mpt": {"d_model": 16, "n_layers": 1, "n_heads": 2, "max_seq_len": 16},
}
COMPUTED: dict[str, dict[str, Any]] = {
    "llama": LONG,
    "gpt_neox": LONG,
    "bloom": {"hidden_size": 16, "n_layer": 1, "n_head": 2},
}


def build(kind: str, sizes: dict[str, Any]) -> Any:
    config = AutoConfig.for_model(kind, vocab_size=50, **sizes)
    return AutoModelForCausalLM.from_config(config).eval()


def run(model: Any, length: int) -> None:
    with torch.no_grad():
        model(input_ids=torch.full((1, length), 5), use_cache=False)


@pytest.mark.parametrize("kind", WITH_TABLE)
def test_table_ends_exactly_where_the_model_fails(kind: str) -> None:
    model = build(kind, WITH_TABLE[kind])
    assert position_end(model) == 16
    run(model, 16)
    with pytest.raises((IndexError, RuntimeError)):
        run(model, 17)


@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_positions_have_no_end(kind: str) -> None:
    model = build(kind, COMPUTED[kind])
    assert position_end(model) is None
    run(model, 40)


def test_row_limit_is_the_smaller_of_profile_and_table() -> None:
    table = LoadedModel(build("gpt2", SIZES), None, None)  # type: ignore[arg-type]
    assert [table.row_limit(wanted) for wanted in (None, 5, 5000)] == [16, 5, 16]
    rotary = LoadedModel(build("llama", LONG), None, None)  # type: ignore[arg-type]
    assert [rotary.row_limit(wanted) for wanted in (None, 5, 5000)] == [16, 5, 5000]
    assert made_for(rotary.model) == 16
