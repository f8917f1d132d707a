"""Interpolation: its two ends are exact, and between them it is the straight line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from sf_tui.recovery.edits import Interpolate


def test_keeping_all_of_the_change_is_the_identity(
    model: PreTrainedModel,
    keep_start: Any,
    tune: Any,
    snapshot: Any,
    layout_of: Any,
    same_bits: Any,
) -> None:
    start = keep_start(model)
    tune(model)
    before = snapshot(model)
    Interpolate(keep=1).apply(layout_of(model), start)
    assert all(same_bits(p, before[name]) for name, p in model.named_parameters())


def test_keeping_nothing_gives_the_start_weights_bit_for_bit(
    model: PreTrainedModel,
    keep_start: Any,
    tune: Any,
    snapshot: Any,
    layout_of: Any,
    same_bits: Any,
) -> None:
    first = snapshot(model)
    start = keep_start(model)
    tune(model, scale=0.5)
    Interpolate(keep=0).apply(layout_of(model), start)
    assert all(same_bits(p, first[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.9])
def test_every_parameter_keeps_that_share_of_its_change(
    keep: float, model: PreTrainedModel, keep_start: Any, tune: Any, snapshot: Any, layout_of: Any
) -> None:
    first = snapshot(model)
    start = keep_start(model)
    tune(model)
    before = snapshot(model)
    report = Interpolate(keep).apply(layout_of(model), start)
    for name, parameter in model.named_parameters():
        expected = first[name].double() + keep * (before[name].double() - first[name].double())
        torch.testing.assert_close(parameter.double(), expected, rtol=1e-6, atol=1e-8)
    for layer in report.layers:
        share = layer.relative_update_after / layer.relative_update_before
        assert share == pytest.approx(keep, rel=1e-4)
        assert layer.directions.of == 0


def test_tied_weight_is_moved_once(
    make_model: Any, keep_start: Any, tune: Any, snapshot: Any, layout_of: Any
) -> None:
    model = make_model("tied llama")
    name = "model.embed_tokens.weight"
    first = snapshot(model)[name]
    start = keep_start(model)
    tune(model)
    before = snapshot(model)[name]
    Interpolate(0.5).apply(layout_of(model), start)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    torch.testing.assert_close(model.lm_head.weight.detach(), first + 0.5 * (before - first))
