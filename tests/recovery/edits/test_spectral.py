"""Spectral-edit: a planted change of low rank survives, noise goes, and vectors stay."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from sf_tui.recovery.edits import SpectralEdit
from sf_tui.recovery.edits.matrices import threshold_over_median

WIDE = {
    "gpt_neox": {"intermediate_size": 128},
    "llama": {"intermediate_size": 128, "num_key_value_heads": 2},
    "tied llama": {"intermediate_size": 128},
    "gpt2": {},
}


@pytest.fixture(params=WIDE)
def wide_model(request: pytest.FixtureRequest, make_model: Any) -> PreTrainedModel:
    """Return a model wide enough for its noise to be told by its median."""
    return make_model(request.param, width=64, **WIDE[request.param])


def _planted(shape: torch.Size, random: torch.Generator, size: float) -> torch.Tensor:
    left = torch.linalg.qr(torch.randn(shape[0], 2, generator=random)).Q
    right = torch.linalg.qr(torch.randn(shape[1], 2, generator=random)).Q
    return (left * torch.tensor([size, size / 2])) @ right.T


def test_planted_change_is_kept_and_its_noise_removed(
    wide_model: PreTrainedModel, keep_start: Any, snapshot: Any, layout_of: Any, same_bits: Any
) -> None:
    random = torch.Generator().manual_seed(3)
    first = snapshot(wide_model)
    start = keep_start(wide_model)
    planted: dict[str, torch.Tensor] = {}
    noise: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name, parameter in wide_model.named_parameters():
            noise[name] = 1e-3 * torch.randn(parameter.shape, generator=random)
            planted[name] = torch.zeros(parameter.shape)
            if parameter.ndim == 2:
                planted[name] = _planted(parameter.shape, random, size=1.0)
            parameter.add_(planted[name] + noise[name])
    before = snapshot(wide_model)
    report = SpectralEdit().apply(layout_of(wide_model), start)
    for name, parameter in wide_model.named_parameters():
        if parameter.ndim == 2:
            change = parameter.detach() - first[name]
            assert torch.linalg.matrix_rank(change, atol=1e-4) == 2
            off = torch.linalg.norm(change - planted[name])
            # A change of rank 2 has 2 (rows + columns) of the noise's rows × columns in it.
            share = math.sqrt(2 * sum(change.shape) / change.numel())
            assert off < 1.3 * share * torch.linalg.norm(noise[name])
        else:
            assert same_bits(parameter, before[name])
    assert report.directions.kept == 2 * report.directions.matrices
    assert report.directions.matrices == sum(p.ndim == 2 for p in wide_model.parameters())


def test_change_of_pure_noise_is_removed_to_the_last_bit(
    wide_model: PreTrainedModel,
    keep_start: Any,
    tune: Any,
    snapshot: Any,
    layout_of: Any,
    same_bits: Any,
) -> None:
    first = snapshot(wide_model)
    start = keep_start(wide_model)
    tune(wide_model, scale=1e-3)
    before = snapshot(wide_model)
    report = SpectralEdit().apply(layout_of(wide_model), start)
    assert report.directions.kept == 0
    assert report.directions.of > 0
    for name, parameter in wide_model.named_parameters():
        assert same_bits(parameter, (first if parameter.ndim == 2 else before)[name])


def test_change_of_a_few_embedding_rows_is_kept_whole(
    make_model: Any, keep_start: Any, snapshot: Any, layout_of: Any, same_bits: Any
) -> None:
    model = make_model("llama", width=64)
    start = keep_start(model)
    with torch.no_grad():
        model.model.embed_tokens.weight[5:12].add_(0.01)
        model.model.embed_tokens.weight[5:12].mul_(1.1)
    before = snapshot(model)
    report = SpectralEdit().apply(layout_of(model), start)
    assert all(same_bits(p, before[name]) for name, p in model.named_parameters())
    assert report.directions.matrices == 1


@pytest.mark.parametrize(
    ("shape", "expected"),
    # 4/√3 over the Marchenko–Pastur median for a square, from the paper's table; 1.43 for a line.
    [((64, 64), 2.858), ((100, 50), 2.1711), ((50, 100), 2.1711), ((10000, 10), 1.43)],
)
def test_threshold_is_the_published_one(shape: tuple[int, int], expected: float) -> None:
    assert threshold_over_median(torch.Size(shape)) == pytest.approx(expected, abs=0.02)
