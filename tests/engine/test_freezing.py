"""A frozen layer stays as it is to the last bit, costs no backward pass, and can train again."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from sf_tui.engine.batches import collate
from sf_tui.engine.forward import AnswerForward
from sf_tui.engine.layout import Freezer, ModelLayout, read_layout
from sf_tui.errors import ModelError
from support.tiny_models import SHAPES, MakeModel, MakeTuner, make_rows, weights


def names_of(layout: ModelLayout, layers: list[str]) -> set[str]:
    return {name for layer in layout.layers if layer.name in layers for name in layer.parameters}


@pytest.mark.parametrize("shape", SHAPES)
def test_frozen_tensor_is_bit_identical_whatever_momentum_and_decay_would_do(
    make_model: MakeModel, make_tuner: MakeTuner, shape: str
) -> None:
    model = make_model(shape, blocks=12).model
    layout = read_layout(model)
    freezer = Freezer(layout)
    tuner = make_tuner(model, make_rows(8), layout=layout, weight_decay=0.5)
    for _ in range(3):
        tuner.advance()
    assert freezer.freeze(1, embeddings=True) == ["embeddings", "block-0"]
    before = weights(model)
    for _ in range(6):
        tuner.advance()
    frozen = names_of(layout, ["embeddings", "block-0"])
    changed = {name for name, now in weights(model).items() if not torch.equal(now, before[name])}
    assert not changed & frozen
    # Biases of keys get no gradient: softmax doesn't see them.
    still = {name for name in before if name not in changed | frozen}
    assert all(name.endswith(("k_proj.bias", "key.bias")) for name in still)
    blocks = {name for block in layout.blocks[1:] for name in block.parameters}
    assert {name for name in changed if ".10." in name or ".11." in name} <= blocks


@pytest.mark.parametrize("shape", SHAPES)
def test_unfrozen_layer_goes_on_with_its_own_optimizer_state(
    make_model: MakeModel, make_tuner: MakeTuner, shape: str
) -> None:
    model = make_model(shape).model
    layout = read_layout(model)
    freezer = Freezer(layout)
    tuner = make_tuner(model, make_rows(8), layout=layout)
    state = tuner.optimizer.state
    for _ in range(3):
        tuner.advance()
    freezer.freeze(2, embeddings=True)
    below = [p for layer in layout.layers[:3] for p in layer.parameters.values()]
    kept = [{key: value.clone() for key, value in state[p].items()} for p in below]
    for _ in range(4):
        tuner.advance()
    for parameter, then in zip(below, kept, strict=True):
        assert all(torch.equal(state[parameter][key], value) for key, value in then.items())
    assert freezer.unfreeze() == ["embeddings", "block-0", "block-1"]
    before = weights(model)
    tuner.advance()
    now = weights(model)
    assert all(state[p]["step"].item() == 4 for p in below)
    assert all(state[p]["step"].item() == 8 for p in layout.blocks[2].parameters.values())
    moved = {name for name in before if not torch.equal(before[name], now[name])}
    assert names_of(layout, ["embeddings"]) <= moved


def test_layer_frozen_from_the_start_trains_after_an_unfreeze(
    make_model: MakeModel, make_tuner: MakeTuner
) -> None:
    model = make_model().model
    layout = read_layout(model)
    freezer = Freezer(layout)
    freezer.freeze(3, embeddings=True)
    tuner = make_tuner(model, make_rows(8), layout=layout)
    tuner.advance()
    assert not any(p in tuner.optimizer.state for p in layout.blocks[0].parameters.values())
    freezer.unfreeze()
    before = weights(model)
    tuner.advance()
    moved = {name for name, now in weights(model).items() if not torch.equal(now, before[name])}
    assert names_of(layout, ["embeddings", "block-0"]) <= moved


def test_unfreezing_at_once_changes_nothing(make_model: MakeModel, make_tuner: MakeTuner) -> None:
    courses = []
    for freezes in (False, True):
        model = make_model().model
        layout = read_layout(model)
        freezer = Freezer(layout)
        tuner = make_tuner(model, make_rows(8), layout=layout)
        for _ in range(4):
            if freezes:
                freezer.freeze(2, embeddings=True)
                freezer.unfreeze()
            tuner.advance()
        courses.append(weights(model))
    assert all(torch.equal(courses[0][name], courses[1][name]) for name in courses[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_backward_ends_at_the_frozen_boundary(
    make_model: MakeModel, shape: str, checkpointing: bool
) -> None:
    model = make_model(shape, blocks=4, gradient_checkpointing=checkpointing).model
    layout = read_layout(model)
    Freezer(layout).freeze(2, embeddings=True)
    wants_gradient: dict[int, bool] = {}
    blocks = next(
        module
        for module in model.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == 4
    )

    def look(
        index: int, _: torch.nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        states = arguments[0] if arguments else keywords["hidden_states"]
        wants_gradient.setdefault(index, states.requires_grad)

    for index, block in enumerate(blocks):
        block.register_forward_pre_hook(partial(look, index), with_kwargs=True)
    model.train()
    logits, targets = AnswerForward(model)(collate(make_rows(4), 0))
    torch.nn.functional.cross_entropy(logits, targets).backward()

    assert wants_gradient == {0: False, 1: False, 2: False, 3: True}
    frozen = names_of(layout, ["embeddings", "block-0", "block-1"])
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name in frozen), name


def test_without_the_embeddings_backward_runs_to_the_bottom(make_model: MakeModel) -> None:
    model = make_model(blocks=4).model
    layout = read_layout(model)
    Freezer(layout).freeze(4, embeddings=False)
    logits, targets = AnswerForward(model)(collate(make_rows(4), 0))
    torch.nn.functional.cross_entropy(logits, targets).backward()
    assert all(p.grad is not None for p in layout.embeddings.parameters.values())
    assert all(p.grad is None for block in layout.blocks for p in block.parameters.values())


def test_tied_embeddings_are_frozen_with_the_output_and_said(
    make_model: MakeModel, make_tuner: MakeTuner
) -> None:
    model = make_model("tied llama").model
    layout = read_layout(model)
    freezer = Freezer(layout)
    freezer.freeze(0, embeddings=True)
    assert freezer.freezes_output_head
    before = model.get_output_embeddings().weight.clone()
    tuner = make_tuner(model, make_rows(8), layout=layout, weight_decay=0.5)
    for _ in range(3):
        tuner.advance()
    assert torch.equal(model.get_output_embeddings().weight, before)
    assert not Freezer(read_layout(make_model("llama").model)).freezes_output_head


def test_freezing_twice_adds_only_what_was_free(make_model: MakeModel) -> None:
    freezer = Freezer(read_layout(make_model(blocks=4).model))
    assert freezer.freeze(1, embeddings=False) == ["block-0"]
    assert freezer.freeze(2, embeddings=True) == ["embeddings", "block-1"]
    assert freezer.freeze(1, embeddings=True) == []
    assert freezer.frozen == ["embeddings", "block-0", "block-1"]


@pytest.mark.parametrize(("blocks", "half"), [(2, 1), (3, 1), (5, 2), (12, 6)])
def test_half_of_the_blocks_by_default(make_model: MakeModel, blocks: int, half: int) -> None:
    freezer = Freezer(read_layout(make_model(blocks=blocks).model))
    assert freezer.resolve(None) == half
    freezer.freeze(None, embeddings=True)
    assert freezer.frozen == ["embeddings", *(f"block-{index}" for index in range(half))]


@pytest.mark.parametrize("layers", [-1, 4, 99])
def test_more_blocks_than_there_are_is_refused(make_model: MakeModel, layers: int) -> None:
    freezer = Freezer(read_layout(make_model(blocks=3).model))
    with pytest.raises(ModelError, match="the model has 3") as caught:
        freezer.freeze(layers, embeddings=True)
    assert "0 … 3" in caught.value.hint
    assert freezer.frozen == []


def test_freezing_everything_is_refused_and_changes_nothing(make_model: MakeModel) -> None:
    layout = read_layout(make_model("llama").model)
    freezer = Freezer(layout)
    freezer.freeze(1, embeddings=False)
    with pytest.raises(ModelError, match="every layer"):
        freezer.restore([layer.name for layer in layout.layers])
    assert freezer.frozen == ["block-0"]
    assert all(p.requires_grad for p in layout.head.parameters.values())
