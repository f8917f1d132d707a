"""Edits act on the adapter: its scale, and the top direction of what it adds to a matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from sf_tui.engine.adapters.effective import effective_weight
from sf_tui.engine.checkpoint import checkpoint_weights, read_checkpoint, save_checkpoint
from sf_tui.engine.compute import choose_compute
from sf_tui.engine.layout import ModelLayout, read_layout
from sf_tui.engine.loading import load_model
from sf_tui.engine.weights import AdapterOff
from sf_tui.errors import UsageError
from sf_tui.profile import ModelSettings
from sf_tui.recovery.edits import edit_named
from support.adapter_runs import SHAPE, logits_of
from support.tiny_models import weights

OFF = AdapterOff(Path("base"))
LINEAR = ["q_proj", "down_proj"]

KINDS: dict[str, Any] = {
    "lora": lambda: peft.LoraConfig(r=4, target_modules=LINEAR, init_lora_weights=False),
    "dora": lambda: peft.LoraConfig(r=4, target_modules=LINEAR, use_dora=True),
    "loha": lambda: peft.LoHaConfig(r=2, target_modules=LINEAR, init_weights=False),
    "lokr": lambda: peft.LoKrConfig(r=2, target_modules=LINEAR, init_weights=False),
    "head": lambda: peft.LoraConfig(r=2, target_modules=LINEAR, modules_to_save=["lm_head"]),
}


def adapted(kind: str) -> tuple[Any, ModelLayout]:
    settings = ModelSettings(source="random", config=SHAPE)
    model = load_model(settings, Path.cwd(), choose_compute("float32", 1), seed=0).model
    peft.inject_adapter_in_model(KINDS[kind](), model)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model, read_layout(model)


def effective(layout: ModelLayout) -> dict[str, torch.Tensor]:
    assert layout.adapters is not None
    return {
        name: effective_weight(module, "default") if hasattr(module, "base_layer") else torch.eye(1)
        for name, module in layout.adapters.modules.items()
    }


def base_of(layout: ModelLayout) -> dict[str, torch.Tensor]:
    assert layout.adapters is not None
    return {
        name: module.get_base_layer().weight.double()
        for name, module in layout.adapters.tuned.items()
    }


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_interpolation_scales_the_change_exactly(kind: str) -> None:
    model, layout = adapted(kind)
    now, base, before = effective(layout), base_of(layout), weights(model)
    report = edit_named("interpolate", {"keep": 0.25}).apply(layout, OFF)
    for name, weight in effective(layout).items():
        expected = base[name] + 0.25 * (now[name] - base[name])
        assert torch.allclose(weight, expected, atol=1e-6)
    changed = {n for n, value in weights(model).items() if not torch.equal(value, before[n])}
    assert changed <= layout.trainable
    for layer in report.layers[1:-1]:
        after = layer.relative_update_after
        assert after == pytest.approx(0.25 * layer.relative_update_before, rel=1e-4)


@pytest.mark.parametrize("kind", ["lora", "dora", "head"])
def test_nothing_kept_is_the_base_and_all_kept_is_the_model(kind: str) -> None:
    model, layout = adapted(kind)
    assert layout.adapters is not None
    on = logits_of(model)
    edit_named("interpolate", {"keep": 1.0}).apply(layout, OFF)
    assert torch.allclose(logits_of(model), on, atol=1e-6)
    with layout.adapters.off():
        base = logits_of(model)
    edit_named("interpolate", {"keep": 0.0}).apply(layout, OFF)
    assert torch.allclose(logits_of(model), base, atol=1e-6)


def test_between_two_states_of_an_adapter_its_parameters_are_interpolated(tmp_path: Path) -> None:
    model, layout = adapted("lora")
    save_checkpoint(tmp_path / "s", layout, None, {"stage": "new", "step": 0, "seq": 1})
    then = weights(model)
    for parameter in layout.trainable_parameters:
        parameter.data.mul_(1.5)
    checkpoint = read_checkpoint(tmp_path / "s")
    assert checkpoint is not None
    start = checkpoint_weights(checkpoint, layout)
    edit_named("interpolate", {"keep": 0.5}).apply(layout, start)
    for name in layout.trainable:
        assert torch.allclose(weights(model)[name], 1.25 * then[name], atol=1e-6)
    with pytest.raises(UsageError, match="began as a change"):
        edit_named("shift-edit", {}).apply(layout, start)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_shift_edit_removes_the_top_direction_of_the_change(alpha: float) -> None:
    model, layout = adapted("lora")
    now, base, before = effective(layout), base_of(layout), weights(model)
    report = edit_named("shift-edit", {"alpha": alpha}).apply(layout, OFF)
    for name, weight in effective(layout).items():
        u, sigma, v = torch.linalg.svd(now[name] - base[name])
        expected = now[name] - alpha * sigma[0] * torch.outer(u[:, 0], v[0])
        assert torch.allclose(weight, expected, atol=1e-6)
    kept = 3 if alpha == 1 else 4
    assert (report.directions.kept, report.directions.of) == (kept * 6, 4 * 6)
    changed = {n for n, value in weights(model).items() if not torch.equal(value, before[n])}
    assert all("lora_B" in name for name in changed)


@pytest.mark.parametrize(
    ("kind", "edit", "said"),
    [("lora", "spectral-edit", "bulk"), ("dora", "shift-edit", "another kind")],
)
def test_edit_without_a_meaning_for_an_adapter_is_refused(kind: str, edit: str, said: str) -> None:
    model, layout = adapted(kind)
    before = weights(model)
    with pytest.raises(UsageError, match=said):
        edit_named(edit, {}).apply(layout, OFF)
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
