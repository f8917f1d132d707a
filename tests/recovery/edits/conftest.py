"""Small real models of several shapes, what tuning does to them, and their start on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from sf_tui.engine.checkpoint import save_checkpoint
from sf_tui.engine.layout import ModelLayout, read_layout
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.engine.weights import StoredWeights

SHAPES: dict[str, dict[str, Any]] = {
    "gpt_neox": {"intermediate_size": 40},
    "llama": {"intermediate_size": 40, "num_key_value_heads": 1, "tie_word_embeddings": False},
    "tied llama": {"intermediate_size": 40, "tie_word_embeddings": True},
    "gpt2": {},
    "mixtral": {
        "intermediate_size": 24,
        "num_key_value_heads": 1,
        "num_local_experts": 3,
        "tie_word_embeddings": False,
    },
}

Snapshot = dict[str, torch.Tensor]
MakeModel = Callable[..., PreTrainedModel]
Tune = Callable[..., None]
Keep = Callable[[PreTrainedModel], StoredWeights]


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """Make a model of one of `SHAPES`, the same for the same seed."""

    def make(
        shape: str = "gpt_neox", *, blocks: int = 2, width: int = 16, seed: int = 0, **more: Any
    ) -> PreTrainedModel:
        config = AutoConfig.for_model(
            shape.split()[-1],
            vocab_size=50,
            hidden_size=width,
            num_attention_heads=2,
            num_hidden_layers=blocks,
            max_position_embeddings=32,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
            **(SHAPES[shape] | more),
        )
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config)

    return make


@pytest.fixture(params=["gpt_neox", "llama", "tied llama", "gpt2"])
def model(request: pytest.FixtureRequest, make_model: MakeModel) -> PreTrainedModel:
    """Return a small model of each shape in turn."""
    return make_model(request.param)


@pytest.fixture(scope="session")
def tune() -> Tune:
    """Move every parameter of a model as a stage would, at random."""

    @torch.no_grad()
    def move(model: PreTrainedModel, *, scale: float = 0.01, seed: int = 1) -> None:
        random = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            step = torch.randn(parameter.shape, generator=random) * scale
            parameter.add_(step.to(parameter.dtype))

    return move


@pytest.fixture
def keep_start(tmp_path: Path) -> Keep:
    """Write a model's weights as its stage's first checkpoint and open them."""

    def keep(model: PreTrainedModel) -> StoredWeights:
        layout = read_layout(model)
        folder = tmp_path / "checkpoints" / "step-000000"
        save_checkpoint(folder, layout, None, {"stage": "new", "step": 0, "seq": 0})
        return open_start_weights(folder, model, layout)

    return keep


@pytest.fixture(scope="session")
def snapshot() -> Callable[[PreTrainedModel], Snapshot]:
    """Copy every parameter of a model by name."""
    return lambda model: {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.fixture(scope="session")
def layout_of() -> Callable[[PreTrainedModel], ModelLayout]:
    """Take a model apart into its layers."""
    return read_layout


@pytest.fixture(scope="session")
def same_bits() -> Callable[[torch.Tensor, torch.Tensor], bool]:
    """Tell whether two tensors agree to the last bit, the sign of a zero included."""

    def same(one: torch.Tensor, other: torch.Tensor) -> bool:
        return one.dtype == other.dtype and torch.equal(
            one.detach().contiguous().view(torch.uint8) if one.ndim else one,
            other.detach().contiguous().view(torch.uint8) if other.ndim else other,
        )

    return same
