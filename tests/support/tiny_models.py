"""Shapes of small real models, and rows of uneven length for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from sf_tui.engine.loading import LoadedModel
from sf_tui.engine.loop import StageTuner
from sf_tui.tasks.encoding import Encoded

SHAPES: dict[str, dict[str, Any]] = {
    "gpt_neox": {"intermediate_size": 32, "attention_dropout": 0.1, "hidden_dropout": 0.1},
    "llama": {"intermediate_size": 32, "num_key_value_heads": 1},
    "tied llama": {"intermediate_size": 32, "tie_word_embeddings": True},
    "gpt2": {},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 8},
    "qwen2": {"intermediate_size": 32, "num_key_value_heads": 1},
    "bloom": {},
}


MakeModel = Callable[..., LoadedModel]


MakeTuner = Callable[..., StageTuner]


def make_rows(
    count: int, *, longest: int = 20, vocabulary: int = 90, seed: int = 0
) -> list[Encoded]:
    """Return rows of uneven length with uneven answers, as an encoder would give them."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        length = int(random.integers(3, longest + 1))
        answer = int(random.integers(1, length))
        ids = [int(token) for token in random.integers(4, vocabulary, length)]
        rows.append(Encoded(ids, [-100] * (length - answer) + ids[length - answer :]))
    return rows


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return a copy of every parameter by name."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
