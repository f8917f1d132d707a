"""Drift is the plain relative change of each layer, and stands still while a layer is frozen."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from sf_tui.engine.checkpoint import save_checkpoint
from sf_tui.engine.layout import Freezer, read_layout
from sf_tui.engine.start_weights import DriftMeter
from support.tiny_models import SHAPES, MakeModel, MakeTuner, make_rows, weights


@pytest.mark.parametrize("shape", SHAPES)
def test_drift_is_the_plain_relative_change(
    make_model: MakeModel, make_tuner: MakeTuner, tmp_path: Path, shape: str
) -> None:
    model = make_model(shape).model
    layout = read_layout(model)
    start = weights(model)
    save_checkpoint(tmp_path / "c", layout, None, {"stage": "new", "step": 0, "seq": 0})
    meter = DriftMeter(layout, Freezer(layout), tmp_path / "c")
    assert [found.relative_update for found in meter.measure()] == [0.0] * len(layout.layers)

    tuner = make_tuner(model, make_rows(8), layout=layout)
    for _ in range(4):
        tuner.advance()
    found = meter.measure()
    assert [one.name for one in found] == [layer.name for layer in layout.layers]
    now = weights(model)
    for one, layer in zip(found, layout.layers, strict=True):
        moved = sum(float((now[n] - start[n]).double().square().sum()) for n in layer.parameters)
        norm = sum(float(start[n].double().square().sum()) for n in layer.parameters)
        assert one.relative_update == pytest.approx(math.sqrt(moved / norm), rel=1e-4)
        assert one.relative_update > 0


def test_drift_of_a_frozen_layer_stands_still_and_the_others_go_on(
    make_model: MakeModel, make_tuner: MakeTuner, tmp_path: Path
) -> None:
    model = make_model().model
    layout = read_layout(model)
    freezer = Freezer(layout)
    save_checkpoint(tmp_path / "c", layout, None, {"stage": "new", "step": 0, "seq": 0})
    meter = DriftMeter(layout, freezer, tmp_path / "c")
    tuner = make_tuner(model, make_rows(8), layout=layout, weight_decay=0.3)
    tuner.advance()
    freezer.freeze(2, embeddings=True)
    before = {one.name: one for one in meter.measure()}
    for _ in range(3):
        tuner.advance()
    after = {one.name: one for one in meter.measure()}
    still = [name for name in after if after[name].relative_update == before[name].relative_update]
    assert still == ["embeddings", "block-0", "block-1"]
    assert [name for name in after if after[name].frozen] == still


def test_layer_of_zeros_has_no_relative_change_to_divide_by(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model().model
    layout = read_layout(model)
    with torch.no_grad():
        for parameter in layout.blocks[0].parameters.values():
            parameter.zero_()
    save_checkpoint(tmp_path / "c", layout, None, {"stage": "new", "step": 0, "seq": 0})
    found = DriftMeter(layout, Freezer(layout), tmp_path / "c").measure()
    assert all(math.isfinite(one.relative_update) for one in found)
