"""What holds for every edit: all or nothing, frozen stays frozen, what it reports is true."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from sf_tui.engine.checkpoint import layer_file
from sf_tui.engine.layout import Freezer, ModelLayout
from sf_tui.engine.start_weights import DriftMeter
from sf_tui.engine.weights import StoredWeights
from sf_tui.errors import ModelError, RunError, UsageError
from sf_tui.recovery.edits import EDIT_OPS, Edit, edit_named
from sf_tui.recovery.edits.edit import in_pieces

Bits = Callable[[torch.Tensor, torch.Tensor], bool]
LayoutOf = Callable[[PreTrainedModel], ModelLayout]

every_edit = pytest.mark.parametrize("edit", [edit_named(op, {}) for op in EDIT_OPS], ids=EDIT_OPS)


@every_edit
def test_weights_equal_to_their_start_stay_bit_identical(
    edit: Edit,
    model: PreTrainedModel,
    keep_start: Any,
    snapshot: Any,
    layout_of: LayoutOf,
    same_bits: Bits,
) -> None:
    start = keep_start(model)
    before = snapshot(model)
    report = edit.apply(layout_of(model), start)
    assert all(same_bits(p, before[name]) for name, p in model.named_parameters())
    assert report.name == edit.name
    assert [layer.name for layer in report.layers] == [x.name for x in layout_of(model).layers]
    for layer in report.layers:
        assert (layer.relative_update_before, layer.relative_update_after) == (0.0, 0.0)
    assert report.directions.matrices == 0


@every_edit
def test_layers_that_were_frozen_stay_bit_identical(
    edit: Edit,
    model: PreTrainedModel,
    keep_start: Any,
    snapshot: Any,
    layout_of: LayoutOf,
    same_bits: Bits,
) -> None:
    start = keep_start(model)
    layout = layout_of(model)
    with torch.no_grad():
        for parameter in layout.blocks[1].parameters.values():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    before = snapshot(model)
    edit.apply(layout, start)
    moved = {name for name, p in model.named_parameters() if not same_bits(p, before[name])}
    assert moved
    assert moved <= set(layout.blocks[1].parameters)


@every_edit
def test_report_agrees_with_the_drift_that_is_measured(
    edit: Edit, model: PreTrainedModel, keep_start: Any, tune: Any, layout_of: LayoutOf
) -> None:
    start = keep_start(model)
    tune(model)
    layout = layout_of(model)
    meter = DriftMeter(layout, Freezer(layout), start.folder)
    before = [layer.relative_update for layer in meter.measure()]
    report = edit.apply(layout, start)
    after = [layer.relative_update for layer in meter.measure()]
    assert [x.relative_update_before for x in report.layers] == pytest.approx(before)
    assert [x.relative_update_after for x in report.layers] == pytest.approx(after)
    assert sum(after) < sum(before)


@every_edit
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_what_single_precision_gives_rounded_once(
    edit: Edit,
    dtype: torch.dtype,
    make_model: Any,
    keep_start: Any,
    tune: Any,
    snapshot: Any,
    layout_of: LayoutOf,
    same_bits: Bits,
) -> None:
    half = make_model("llama").to(dtype)
    start = keep_start(half)
    # Its own weights in float32 tell what should come out.
    whole = make_model("llama")
    whole.load_state_dict(half.state_dict())
    tune(half)
    whole.load_state_dict(half.state_dict())
    edit.apply(layout_of(half), start)
    edit.apply(layout_of(whole), start)
    edited = snapshot(whole)
    for name, parameter in half.named_parameters():
        assert parameter.dtype == dtype
        assert same_bits(parameter, edited[name].to(dtype))


@every_edit
def test_missing_start_file_is_named_and_nothing_is_changed(
    edit: Edit,
    model: PreTrainedModel,
    keep_start: Any,
    tune: Any,
    snapshot: Any,
    layout_of: LayoutOf,
    same_bits: Bits,
) -> None:
    start = keep_start(model)
    tune(model)
    before = snapshot(model)
    gone = layer_file(start.folder, "head")
    gone.unlink()
    with pytest.raises(RunError, match=str(gone)):
        edit.apply(layout_of(model), start)
    assert all(same_bits(p, before[name]) for name, p in model.named_parameters())


@every_edit
def test_start_of_another_shape_is_named_and_nothing_is_changed(
    edit: Edit,
    make_model: Any,
    keep_start: Any,
    tune: Any,
    snapshot: Any,
    layout_of: LayoutOf,
    same_bits: Bits,
) -> None:
    model = make_model("llama")
    start = keep_start(make_model("llama", intermediate_size=48))
    tune(model)
    before = snapshot(model)
    with pytest.raises(RunError, match=r"block-0\.safetensors: tensor .* is 48 × 16") as caught:
        edit.apply(layout_of(model), start)
    assert "the model's 'model.layers.0.mlp.gate_proj.weight' is 40 × 16" in caught.value.message
    assert all(same_bits(p, before[name]) for name, p in model.named_parameters())


def test_start_that_is_not_finite_is_named_and_nothing_is_changed(
    make_model: Any, keep_start: Any, tune: Any, snapshot: Any, layout_of: LayoutOf, same_bits: Bits
) -> None:
    model = make_model("llama")
    clean = snapshot(model)
    with torch.no_grad():
        model.lm_head.weight[3, 2] = float("nan")
    start = keep_start(model)
    model.load_state_dict(clean)
    tune(model)
    before = snapshot(model)
    with pytest.raises(RunError, match=r"head\.safetensors: tensor 'lm_head\.weight'"):
        edit_named("shift-edit", {}).apply(layout_of(model), start)
    assert all(same_bits(p, before[name]) for name, p in model.named_parameters())


@every_edit
def test_model_that_is_not_finite_is_refused_and_not_changed(
    edit: Edit,
    make_model: Any,
    keep_start: Any,
    tune: Any,
    snapshot: Any,
    layout_of: LayoutOf,
    same_bits: Bits,
) -> None:
    model = make_model("gpt2")
    start = keep_start(model)
    tune(model)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = float("inf")
    before = snapshot(model)
    with pytest.raises(ModelError, match=r"block-1: parameter 'transformer\.h\.1\.mlp\.c_fc"):
        edit.apply(layout_of(model), start)
    assert all(same_bits(p, before[name]) for name, p in model.named_parameters())


@every_edit
def test_start_weights_are_read_one_tensor_at_a_time(
    edit: Edit, make_model: Any, keep_start: Any, tune: Any, layout_of: LayoutOf
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    class Watched(StoredWeights):
        def tensors(self, layer: str) -> Iterator[tuple[str, torch.Tensor]]:
            for name, tensor in super().tensors(layer):
                # The one before is replaced when the next one arrives.
                assert sum(known() is not None for known in held) <= 1
                held.append(weakref.ref(tensor))
                yield name, tensor

    model = make_model("tied llama", blocks=3)
    start = keep_start(model)
    tune(model)
    start.__class__ = Watched
    edit.apply(layout_of(model), start)
    # Read twice: once to check the values.
    assert len(held) == 2 * sum(1 for _ in model.parameters())


@every_edit
def test_gradients_may_be_asked_for_as_before(
    edit: Edit, make_model: Any, keep_start: Any, tune: Any, layout_of: LayoutOf
) -> None:
    model = make_model("llama")
    start = keep_start(model)
    tune(model)
    identities = [id(parameter) for parameter in model.parameters()]
    edit.apply(layout_of(model), start)
    assert identities == [id(parameter) for parameter in model.parameters()]
    ids = torch.arange(8).unsqueeze(0)
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(p.requires_grad and p.grad is not None for p in model.parameters())


def test_edits_are_made_by_the_names_of_their_ops() -> None:
    assert EDIT_OPS == ("shift-edit", "spectral-edit", "interpolate")
    assert edit_named("shift-edit", {"alpha": 0.25}).alpha == 0.25
    assert edit_named("shift-edit", {"alpha": None}).alpha == 1.0
    assert edit_named("interpolate", {"keep": 0}).keep == 0.0
    assert edit_named("interpolate", {}).keep == 0.7


@pytest.mark.parametrize(
    ("op", "arguments", "message", "hint"),
    [
        ("shiftedit", {}, "no edit 'shiftedit'", "did you mean 'shift-edit'"),
        ("freeze", {}, "no edit 'freeze'", "shift-edit, spectral-edit, interpolate"),
        ("shift-edit", {"keep": 0.5}, "no argument 'keep'", "it takes: alpha"),
        ("spectral-edit", {"alpha": 0.5}, "no argument 'alpha'", "it takes none"),
        ("shift-edit", {"alpha": 1.5}, "alpha = 1.5", "alpha = 0 … 1"),
        ("interpolate", {"keep": -0.1}, "keep = -0.1", "keep = 0 … 1"),
        ("interpolate", {"keep": float("nan")}, "keep = nan", "keep = 0 … 1"),
        ("interpolate", {"keep": "half"}, "keep = 'half'", "keep = 0 … 1"),
    ],
)
def test_what_an_edit_does_not_take_is_refused_by_name(
    op: str, arguments: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        edit_named(op, arguments)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("shape", [(), (0,), (7,), (0, 4), (5_000_000,), (3000, 2000), (3, 4, 5)])
def test_pieces_are_bounded_views_of_the_whole(shape: tuple[int, ...]) -> None:
    whole = torch.zeros(shape)
    pieces = list(in_pieces(whole))
    assert sum(piece.numel() for piece in pieces) == whole.numel()
    assert max((piece.numel() for piece in pieces), default=0) <= 1 << 22
    for piece in pieces:
        piece.fill_(1.0)
    assert bool((whole == 1).all())


def test_pieces_of_a_transposed_matrix_are_views_too() -> None:
    whole = torch.zeros(2000, 3000).T
    for piece in in_pieces(whole):
        piece.fill_(1.0)
    assert bool((whole == 1).all())
