"""Each parameter stands in one layer, and block n is block n in models of every shape."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from sf_tui.engine.layout import read_layout
from sf_tui.errors import ModelError
from support.families import tiny_config
from support.tiny_models import SHAPES, MakeModel

BEFORE_THE_BLOCKS = {
    "gpt_neox": {"gpt_neox.embed_in.weight"},
    "llama": {"model.embed_tokens.weight"},
    "tied llama": {"model.embed_tokens.weight"},
    "gpt2": {"transformer.wte.weight", "transformer.wpe.weight"},
    "opt": {
        "model.decoder.embed_tokens.weight",
        "model.decoder.embed_positions.weight",
        "model.decoder.project_in.weight",
    },
    "qwen2": {"model.embed_tokens.weight"},
    "bloom": {
        "transformer.word_embeddings.weight",
        "transformer.word_embeddings_layernorm.weight",
        "transformer.word_embeddings_layernorm.bias",
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_parameter_stands_in_exactly_one_layer(make_model: MakeModel, shape: str) -> None:
    model = make_model(shape, blocks=12).model
    layout = read_layout(model)
    names = [name for layer in layout.layers for name in layer.parameters]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert layout.elements == sum(parameter.numel() for parameter in model.parameters())
    assert [layer.name for layer in layout.layers] == [
        "embeddings",
        *(f"block-{index}" for index in range(12)),
        "head",
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_are_told_apart_by_index_and_not_by_the_beginning_of_a_name(
    make_model: MakeModel, shape: str
) -> None:
    layout = read_layout(make_model(shape, blocks=12).model)
    for index, block in enumerate(layout.blocks):
        assert block.parameters
        assert all(f".{index}." in name for name in block.parameters)


@pytest.mark.parametrize("shape", SHAPES)
def test_everything_before_the_first_block_belongs_to_the_embeddings(
    make_model: MakeModel, shape: str
) -> None:
    layout = read_layout(make_model(shape).model)
    assert set(layout.embeddings.parameters) == BEFORE_THE_BLOCKS[shape]


@pytest.mark.parametrize("shape", SHAPES)
def test_output_projection_belongs_to_the_head_unless_it_is_tied(
    make_model: MakeModel, shape: str
) -> None:
    model = make_model(shape).model
    layout = read_layout(model)
    output = model.get_output_embeddings().weight
    assert layout.tied == (output is model.get_input_embeddings().weight)
    assert any(output is parameter for parameter in layout.head.parameters.values()) != layout.tied
    assert layout.tied == (shape in {"tied llama", "gpt2", "opt", "bloom"})


def test_model_without_decoder_blocks_is_refused(make_model: MakeModel) -> None:
    model = make_model("gpt_neox", blocks=3).model
    model.gpt_neox.layers = torch.nn.Sequential(*model.gpt_neox.layers)
    with pytest.raises(ModelError, match="no list of 3 decoder blocks") as caught:
        read_layout(model)
    assert "GPT-NeoX" in caught.value.hint


FEEDS = {
    "modernbert-decoder": {
        "model.embeddings.tok_embeddings.weight",
        "model.embeddings.norm.weight",
    },
    "gemma3n_text": {
        "model.embed_tokens.weight",
        "model.embed_tokens_per_layer.weight",
        "model.per_layer_model_projection.weight",
        "model.per_layer_projection_norm.weight",
        "model.altup_projections.0.weight",
        "model.altup_projections.1.weight",
        "model.altup_projections.2.weight",
    },
}


@pytest.mark.parametrize("kind", FEEDS)
def test_what_feeds_the_blocks_is_found_whatever_its_name(kind: str) -> None:
    layout = read_layout(AutoModelForCausalLM.from_config(tiny_config(kind)))
    assert set(layout.embeddings.parameters) == FEEDS[kind]


@pytest.mark.parametrize("blocks", [3, 4])
def test_block_list_is_the_one_that_the_hidden_state_passes(blocks: int) -> None:
    # Gemma 3n has two lists of three projections beside its blocks.
    config = tiny_config("gemma3n_text")
    config.num_hidden_layers = blocks
    config.layer_types = config.layer_types[:blocks]
    config.intermediate_size = config.intermediate_size[:blocks]
    config.activation_sparsity_pattern = config.activation_sparsity_pattern[:blocks]
    layout = read_layout(AutoModelForCausalLM.from_config(config))
    assert len(layout.blocks) == blocks
    assert all(name.startswith("model.layers.") for name in layout.blocks[0].parameters)


def test_blocks_of_two_layers_are_counted_as_blocks() -> None:
    model = AutoModelForCausalLM.from_config(tiny_config("longcat_flash"))
    assert model.config.num_hidden_layers == 4
    assert len(read_layout(model).blocks) == 2


def test_blocks_that_run_in_turns_are_refused_with_the_reason() -> None:
    model = AutoModelForCausalLM.from_config(tiny_config("hrm_text"))
    with pytest.raises(ModelError, match="run in turns"):
        read_layout(model)


def test_reading_a_layout_changes_nothing(make_model: MakeModel) -> None:
    model = make_model("opt").model.train()
    frozen = next(model.parameters()).requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with torch.no_grad():
        read_layout(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not frozen.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
