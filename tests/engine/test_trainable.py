"""What did not train when a model was loaded never trains, and checkpoints hold what is stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from sf_tui.engine.checkpoint import (
    checkpoint_weights,
    layer_file,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from sf_tui.engine.layout import Freezer, ModelLayout, read_layout
from sf_tui.engine.start_weights import DriftMeter
from sf_tui.engine.weights import Snapshot, weights_restored, with_weights
from sf_tui.errors import ModelError
from sf_tui.recovery.edits import EDIT_OPS, edit_named
from support.tiny_models import MakeModel, MakeTuner, make_rows, weights

STATE = {"stage": "new", "step": 0, "seq": 1}


def by_hand(model: PreTrainedModel) -> set[str]:
    """Make the head and the vectors of one block untrainable; return their names."""
    fixed = {
        name
        for name, parameter in model.named_parameters()
        if name.startswith("embed_out") or (".layers.1." in name and parameter.dim() == 1)
    }
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in fixed)
    return fixed


def thawed(model: PreTrainedModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def everything(layout: ModelLayout) -> set[str]:
    return {name for layer in layout.layers for name in layer.parameters}


@pytest.fixture
def model(make_model: MakeModel) -> PreTrainedModel:
    return make_model("gpt_neox", blocks=3).model


def test_whole_model_trains_and_is_stored_unless_something_was_fixed(
    model: PreTrainedModel,
) -> None:
    layout = read_layout(model)
    assert layout.trainable == layout.stored == everything(layout)
    fixed = by_hand(model)
    layout = read_layout(model)
    assert len(fixed) > 5
    assert layout.trainable == everything(layout) - fixed
    assert layout.stored == everything(layout)
    assert thawed(model) == layout.trainable


def test_freezing_and_unfreezing_thaw_nothing_that_did_not_train(model: PreTrainedModel) -> None:
    fixed = by_hand(model)
    layout = read_layout(model)
    freezer = Freezer(layout)
    freezer.freeze(2, embeddings=True)
    assert thawed(model) == set(layout.blocks[2].parameters) | set(layout.head.parameters) - fixed
    freezer.unfreeze()
    assert thawed(model) == layout.trainable
    freezer.restore(["block-0"])
    freezer.restore([])
    assert thawed(model) == layout.trainable


def test_freezing_all_that_trains_is_refused(model: PreTrainedModel) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".layers.0." in name)
    freezer = Freezer(read_layout(model))
    with pytest.raises(ModelError, match="nothing trained"):
        freezer.freeze(1, embeddings=False)


def test_steps_change_only_what_trains_and_drift_measures_only_that(
    model: PreTrainedModel, make_tuner: MakeTuner, tmp_path: Path
) -> None:
    fixed = by_hand(model)
    layout = read_layout(model)
    before = weights(model)
    save_checkpoint(tmp_path / "step-000000", layout, None, STATE)
    tuner = make_tuner(model, make_rows(8), layout=layout, weight_decay=0.5)
    for _ in range(2):
        tuner.advance()
    known = {id(p) for group in tuner.optimizer.param_groups for p in group["params"]}
    assert known == {id(p) for p in layout.trainable_parameters}
    assert all(torch.equal(weights(model)[name], before[name]) for name in fixed)
    drift = {
        layer.name: layer.relative_update
        for layer in DriftMeter(layout, Freezer(layout), tmp_path / "step-000000").measure()
    }
    assert drift["block-1"] > 0
    assert drift["head"] > 0  # of its norm alone
    block = layout.trainable_in(layout.blocks[1])
    moved = sum(float((p.detach() - before[n]).norm()) ** 2 for n, p in block.items()) ** 0.5
    norm = sum(float(before[n].norm()) ** 2 for n in block) ** 0.5
    assert drift["block-1"] == pytest.approx(moved / norm, rel=1e-5)


def test_resumed_stage_trains_what_trained_before(
    make_model: MakeModel, make_tuner: MakeTuner, tmp_path: Path
) -> None:
    losses: list[list[float]] = []
    for resumed in (False, True):
        model = make_model("gpt_neox", blocks=3).model
        fixed = by_hand(model)
        layout = read_layout(model)
        freezer = Freezer(layout)
        tuner = make_tuner(model, make_rows(8), layout=layout)
        if resumed:
            checkpoint = read_checkpoint(tmp_path / "c")
            assert checkpoint is not None
            load_checkpoint(checkpoint, layout, tuner.optimizer)
            tuner.step = 2
            freezer.restore(["embeddings"])
        else:
            for _ in range(2):
                tuner.advance()
            save_checkpoint(tmp_path / "c", layout, tuner.optimizer, STATE)
            freezer.restore(["embeddings"])
        assert thawed(model) == layout.trainable - set(layout.embeddings.parameters)
        losses.append([tuner.advance().loss for _ in range(2)])
        assert not thawed(model) & fixed
    assert losses[0] == losses[1]


@pytest.mark.parametrize("thaw", [True, False])
def test_trial_thaws_only_what_trains_and_takes_all_of_it_back(
    model: PreTrainedModel, make_tuner: MakeTuner, thaw: bool
) -> None:
    by_hand(model)
    layout = read_layout(model)
    Freezer(layout).freeze(1, embeddings=True)
    before, was_thawed = weights(model), thawed(model)
    with weights_restored(model, layout, thaw=thaw):
        assert thawed(model) == (layout.trainable if thaw else was_thawed)
        make_tuner(model, make_rows(8), layout=layout).advance()
    assert thawed(model) == was_thawed
    assert all(torch.equal(now, before[name]) for name, now in weights(model).items())


@pytest.mark.parametrize("op", EDIT_OPS)
def test_edits_leave_alone_what_does_not_train(
    model: PreTrainedModel, tmp_path: Path, op: str
) -> None:
    fixed = by_hand(model)
    layout = read_layout(model)
    save_checkpoint(tmp_path / "c", layout, None, STATE)
    checkpoint = read_checkpoint(tmp_path / "c")
    assert checkpoint is not None
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    before = weights(model)
    report = edit_named(op, {}).apply(layout, checkpoint_weights(checkpoint, layout))
    changed = {name for name, now in weights(model).items() if not torch.equal(now, before[name])}
    assert changed
    assert not changed & fixed
    assert any(
        layer.relative_update_after < layer.relative_update_before for layer in report.layers
    )


def test_checkpoint_and_snapshot_hold_what_is_stored_and_nothing_else(
    model: PreTrainedModel, make_tuner: MakeTuner, tmp_path: Path
) -> None:
    fixed = by_hand(model)
    layout = read_layout(model, stored=thawed(model))
    tuner = make_tuner(model, make_rows(8), layout=layout)
    tuner.advance()
    save_checkpoint(tmp_path / "c", layout, tuner.optimizer, STATE)
    held: set[str] = set()
    for layer in layout.layers:
        with safe_open(layer_file(tmp_path / "c", layer.name), framework="pt") as file:
            held |= set(file.keys())
    assert held == layout.stored == everything(layout) - fixed
    saved, snapshot = weights(model), Snapshot(layout)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    moved = weights(model)
    checkpoint = read_checkpoint(tmp_path / "c")
    assert checkpoint is not None
    with with_weights(checkpoint_weights(checkpoint, layout), layout):
        lent = weights(model)
    assert all(torch.equal(lent[n], saved[n] if n in held else moved[n]) for n in lent)
    assert all(torch.equal(now, moved[name]) for name, now in weights(model).items())
    load_checkpoint(checkpoint, layout, tuner.optimizer)
    assert all(torch.equal(now, lent[name]) for name, now in weights(model).items())
    snapshot.restore()
    assert all(torch.equal(now, lent[name]) for name, now in weights(model).items())


@pytest.mark.parametrize(
    ("stored", "reason"), [(set(), "trains and is not stored"), ({"x"}, "stored and in no layer")]
)
def test_layout_that_would_lose_weights_is_refused(
    model: PreTrainedModel, stored: set[str], reason: str
) -> None:
    stored = stored and stored | thawed(model)
    with pytest.raises(ModelError, match=reason):
        read_layout(model, stored=stored)
