"""Shift-edit: exactly the top direction of each block matrix's change goes, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from sf_tui.recovery.edits import ShiftEdit


def singular_values(now: torch.Tensor, then: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svdvals(now.detach().double() - then.double())


def test_top_singular_value_becomes_what_the_second_was(
    model: PreTrainedModel, keep_start: Any, tune: Any, snapshot: Any, layout_of: Any
) -> None:
    first = snapshot(model)
    start = keep_start(model)
    tune(model)
    before = snapshot(model)
    layout = layout_of(model)
    report = ShiftEdit(alpha=1).apply(layout, start)
    for block, edited in zip(layout.blocks, report.layers[1:], strict=False):
        matrices = {name: p for name, p in block.parameters.items() if p.ndim == 2}
        assert matrices
        for name, parameter in matrices.items():
            was = singular_values(before[name], first[name])
            now = singular_values(parameter, first[name])
            torch.testing.assert_close(now[:-1], was[1:], rtol=1e-4, atol=1e-7)
            assert now[-1] < 1e-6
        assert edited.directions.matrices == len(matrices)
        assert edited.directions.of - edited.directions.kept == len(matrices)


def test_embeddings_head_norms_and_biases_stay_bit_identical(
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
    layout = layout_of(model)
    report = ShiftEdit().apply(layout, start)
    moved = {name for name, p in model.named_parameters() if not same_bits(p, before[name])}
    assert moved == {
        name
        for block in layout.blocks
        for name, parameter in block.parameters.items()
        if parameter.ndim == 2
    }
    assert report.layers[0].directions.of == report.layers[-1].directions.of == 0
    assert report.layers[0].relative_update_after == report.layers[0].relative_update_before > 0


def test_part_of_the_direction_goes_with_a_smaller_alpha(
    model: PreTrainedModel, keep_start: Any, tune: Any, snapshot: Any, layout_of: Any
) -> None:
    first = snapshot(model)
    start = keep_start(model)
    tune(model)
    before = snapshot(model)
    ShiftEdit(alpha=0.25).apply(layout_of(model), start)
    for block in layout_of(model).blocks:
        for name, parameter in block.parameters.items():
            if parameter.ndim == 2:
                expected = singular_values(before[name], first[name])
                expected[0] *= 0.75
                expected = expected.sort(descending=True).values
                now = singular_values(parameter, first[name])
                torch.testing.assert_close(now, expected, rtol=1e-4, atol=1e-7)


def test_alpha_towards_nothing_is_the_identity(
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
    ShiftEdit(alpha=0).apply(layout_of(model), start)
    assert all(same_bits(p, before[name]) for name, p in model.named_parameters())
    ShiftEdit(alpha=1e-6).apply(layout_of(model), start)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=2e-7)


def test_edit_is_the_same_each_time(
    make_model: Any, keep_start: Any, tune: Any, snapshot: Any, layout_of: Any, same_bits: Any
) -> None:
    model = make_model("gpt2")
    start = keep_start(model)
    tune(model)
    before = snapshot(model)
    ShiftEdit().apply(layout_of(model), start)
    once = snapshot(model)
    model.load_state_dict(before, strict=False)
    ShiftEdit().apply(layout_of(model), start)
    assert all(same_bits(p, once[name]) for name, p in model.named_parameters())


def test_each_fused_expert_loses_a_direction_of_its_own(
    make_model: Any, keep_start: Any, tune: Any, snapshot: Any, layout_of: Any, same_bits: Any
) -> None:
    model = make_model("mixtral")
    first = snapshot(model)
    start = keep_start(model)
    tune(model)
    fused = {name: p for name, p in model.named_parameters() if p.ndim == 3}
    assert fused
    for name, parameter in fused.items():
        # One expert that no token was sent to.
        with torch.no_grad():
            parameter[1] = first[name][1]
    before = snapshot(model)
    ShiftEdit().apply(layout_of(model), start)
    for name, parameter in fused.items():
        assert same_bits(parameter[1], first[name][1])
        for expert in (0, 2):
            was = singular_values(before[name][expert], first[name][expert])
            now = singular_values(parameter[expert], first[name][expert])
            torch.testing.assert_close(now[:-1], was[1:], rtol=1e-4, atol=1e-7)


def test_vector_that_is_written_as_a_matrix_is_no_matrix(
    make_model: Any, keep_start: Any, snapshot: Any, layout_of: Any, tune: Any, same_bits: Any
) -> None:
    model = make_model("llama")
    norm = model.model.layers[0].input_layernorm
    norm.weight = torch.nn.Parameter(norm.weight.detach().unsqueeze(0))
    start = keep_start(model)
    tune(model)
    before = snapshot(model)
    ShiftEdit().apply(layout_of(model), start)
    name = "model.layers.0.input_layernorm.weight"
    assert same_bits(norm.weight, before[name])


@pytest.mark.parametrize("columns", [8, 40])
def test_planted_shift_is_taken_out(columns: int) -> None:
    random = torch.Generator().manual_seed(0)
    then = torch.randn(20, columns, generator=random)
    rest = 0.01 * torch.randn(20, columns, generator=random)
    # The planted direction is orthogonal to the rest, so that it is exactly one of the change's.
    left, right = torch.randn(20, generator=random), torch.randn(columns, generator=random)
    rest -= torch.outer(left, left @ rest) / left.dot(left)
    rest -= torch.outer(rest @ right, right) / right.dot(right)
    now = then + rest + 0.1 * torch.outer(left, right)
    ShiftEdit().edit_parameter(now, then, in_block=True)
    torch.testing.assert_close(now, then + rest, rtol=0, atol=2e-6)
