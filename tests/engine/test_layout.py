"""Each parameter stands in one layer, and block n is block n in models of every shape."""

from __future__ import annotations

import pytest
import torch

from engine.conftest import SHAPES, MakeModel
from sf_tui.engine.layout import read_layout
from sf_tui.errors import ModelError

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
