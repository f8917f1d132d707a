"""An adapter can be turned off exactly, and what it changes is measured in effective weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import PreTrainedModel

from sf_tui.engine.adapters.effective import EffectiveChange, effective_weight
from sf_tui.engine.adapters.layers import find_adapters, unwrapped
from sf_tui.engine.checkpoint import read_checkpoint, save_checkpoint
from sf_tui.engine.layout import EMBEDDINGS, Freezer, read_layout
from sf_tui.engine.start_weights import DriftMeter
from sf_tui.engine.weights import AdapterOff, Snapshot, weights_restored, with_weights
from sf_tui.errors import ModelError
from support.tiny_models import MakeModel, make_rows, weights

IDS = torch.tensor([[5, 9, 11, 7, 3]])

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

KINDS: dict[str, Any] = {
    "lora": lambda: peft.LoraConfig(r=4, lora_alpha=8, target_modules=LINEAR),
    "random lora": lambda: peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=LINEAR, init_lora_weights=False
    ),
    "dora": lambda: peft.LoraConfig(r=4, target_modules=LINEAR, use_dora=True),
    "embedding": lambda: peft.LoraConfig(r=2, target_modules=["embed_tokens", "q_proj"]),
    "whole head": lambda: peft.LoraConfig(
        r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]
    ),
    "loha": lambda: peft.LoHaConfig(r=2, target_modules=LINEAR, init_weights=False),
    "lokr": lambda: peft.LoKrConfig(r=2, target_modules=LINEAR, init_weights=False),
}


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS).logits.clone()


def adapted(make_model: MakeModel, kind: str, family: str = "llama") -> PreTrainedModel:
    model = make_model(family, blocks=3).model
    return peft.inject_adapter_in_model(KINDS[kind](), model)


def disturb(model: PreTrainedModel) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.add_(0.1 * noise)


@pytest.mark.parametrize("kind", KINDS)
def test_start_is_the_base_to_the_bit_whatever_the_fresh_adapter_does(
    make_model: MakeModel, kind: str
) -> None:
    base = logits(make_model("llama", blocks=3).model)
    model = adapted(make_model, kind)
    layout = read_layout(model)
    fresh = logits(model)
    assert torch.equal(fresh, base) is (kind in ("lora", "embedding", "whole head")) or (
        kind == "dora" and torch.allclose(fresh, base, atol=1e-6)
    )
    disturb(model)
    before, trained, trains = weights(model), logits(model), thawed(model)
    assert not torch.allclose(trained, base)
    with with_weights(AdapterOff(Path("base")), layout):
        assert torch.equal(logits(model), base)
        assert thawed(model) == trains
    assert torch.equal(logits(model), trained)
    assert thawed(model) == trains
    assert all(torch.equal(before[name], value) for name, value in weights(model).items())


def thawed(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_snapshot_remembers_whether_the_adapter_was_on(make_model: MakeModel) -> None:
    model = adapted(make_model, "random lora")
    layout = read_layout(model)
    trained = logits(model)
    with weights_restored(model, layout) as now:
        AdapterOff(Path("base")).load_into(layout)
        off = Snapshot(layout)
        now.restore()
        assert torch.equal(logits(model), trained)
        off.restore()
        assert not torch.equal(logits(model), trained)
    assert torch.equal(logits(model), trained)


def test_what_trains_and_is_stored_is_the_adapter(make_model: MakeModel) -> None:
    model = adapted(make_model, "lora")
    layout = read_layout(model)
    assert layout.adapters is not None
    assert layout.trainable == layout.stored == set(layout.adapters.parameters)
    assert all(".lora_" in name for name in layout.trainable)
    assert [len(layout.trainable_in(block)) for block in layout.blocks] == [14] * 3
    assert not layout.trainable_in(layout.embeddings)


def test_freezing_by_block_keeps_frozen_blocks_and_the_base_to_the_bit(
    make_model: MakeModel, make_tuner: Any
) -> None:
    model = adapted(make_model, "random lora")
    layout = read_layout(model)
    freezer = Freezer(layout)
    tuner = make_tuner(model, make_rows(8), layout=layout, weight_decay=0.5)
    tuner.advance()
    assert freezer.freeze(2, embeddings=True) == [EMBEDDINGS, "block-0", "block-1"]
    before = weights(model)
    for _ in range(2):
        tuner.advance()
    after = weights(model)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert moved <= layout.trainable
    assert all(".layers.2." in name for name in moved)
    freezer.unfreeze()
    tuner.advance()
    assert any(
        not torch.equal(value, after[name])
        for name, value in weights(model).items()
        if ".layers.0." in name
    )


@pytest.mark.parametrize("start", ["checkpoint", "off"])
@pytest.mark.parametrize(
    ("kind", "family"),
    [
        *((kind, "llama") for kind in KINDS if kind != "lora"),
        ("random lora", "gpt2"),  # its weights are stored transposed
    ],
)
def test_drift_is_that_of_the_effective_weights(
    make_model: MakeModel, tmp_path: Path, kind: str, family: str, start: str
) -> None:
    model = make_model(family, blocks=3).model
    config = KINDS[kind]()
    if family == "gpt2":
        config.target_modules = {"c_attn", "c_proj"}
        config.fan_in_fan_out = True
    peft.inject_adapter_in_model(config, model)
    disturb(model)
    layout = read_layout(model)
    path = tmp_path / "step-000000"
    save_checkpoint(path, layout, None, {"stage": "new", "step": 0, "seq": 1})
    then = _effective(layout, off=start == "off")
    disturb(model)
    now = _effective(layout, off=False)
    before = weights(model)
    meter = DriftMeter(
        layout, Freezer(layout), path if start == "checkpoint" else AdapterOff(tmp_path)
    )
    for _ in range(2):  # the second time with the stored norms
        for one in meter.measure():
            names = [name for name in now if name in _modules_of(layout, one.name)]
            moved = sum(float((now[name] - then[name]).norm()) ** 2 for name in names) ** 0.5
            norm = sum(float(then[name].norm()) ** 2 for name in names) ** 0.5
            expected = moved / norm if names else 0.0
            assert one.relative_update == pytest.approx(expected, rel=1e-4)
            assert (expected > 0.01) is bool(names)
    assert all(torch.equal(before[name], value) for name, value in weights(model).items())
    assert read_checkpoint(path) is not None


def _modules_of(layout: Any, layer: str) -> set[str]:
    found = next(one for one in layout.layers if one.name == layer)
    return {
        name
        for name in layout.adapters.modules
        if any(parameter.startswith(f"{name}.") for parameter in found.parameters)
    }


def _effective(layout: Any, *, off: bool) -> dict[str, torch.Tensor]:
    """Return the weight of each adapted module as its own forward pass applies it."""
    found = {}
    for name, module in layout.adapters.modules.items():
        layout.adapters.enable(not off)
        if hasattr(module, "base_layer"):
            base = module.get_base_layer()
            if isinstance(base, torch.nn.Embedding):
                found[name] = module(torch.arange(base.weight.shape[0])).detach().double()
            else:
                wide = (
                    base.weight.shape[0]
                    if getattr(module, "fan_in_fan_out", False)
                    else base.weight.shape[1]
                )
                module.eval()
                zero = module(torch.zeros(1, wide))
                found[name] = (module(torch.eye(wide)) - zero).detach().double()
        else:
            part = module.original_module if off else module.modules_to_save["default"]
            found[name] = part.weight.detach().double()
    layout.adapters.enable(True)
    return found


def test_effective_weight_is_what_merging_gives(make_model: MakeModel) -> None:
    model = adapted(make_model, "dora")
    disturb(model)
    adapters = find_adapters(model)
    assert adapters is not None
    name, module = next(iter(adapters.tuned.items()))
    ours = effective_weight(module, "default")
    module.merge(safe_merge=True)
    assert torch.allclose(ours.float(), module.get_base_layer().weight, atol=1e-6), name
    with pytest.raises(ModelError, match="merged"):
        find_adapters(model)


def test_tiny_change_of_a_large_adapter_is_measured(make_model: MakeModel) -> None:
    model = adapted(make_model, "random lora")
    layout = read_layout(model)
    assert layout.adapters is not None
    then = {name: value.clone() for name, value in layout.adapters.parameters.items()}
    for name, parameter in layout.adapters.parameters.items():
        if "lora_B" in name:
            parameter.data.mul_(1 + 1e-5)
    block = layout.blocks[0]
    found = EffectiveChange(layout.adapters).relative_update("block-0", block.parameters, then)
    whole = EffectiveChange(layout.adapters).relative_update("block-0", block.parameters, None)
    assert 0 < found < whole * 1e-4


def test_peft_model_of_another_training_is_read_as_its_own_model(make_model: MakeModel) -> None:
    inner = make_model("llama", blocks=3).model
    wrapped = peft.get_peft_model(inner, KINDS["random lora"]())
    assert unwrapped(wrapped) is inner
    layout = read_layout(unwrapped(wrapped))
    assert layout.adapters is not None
    on = logits(wrapped)
    with layout.adapters.off():
        assert not torch.equal(logits(wrapped), on)
    assert torch.equal(logits(wrapped), on)
    assert unwrapped(inner) is inner


def test_prompt_tuning_is_refused_with_the_reason(make_model: MakeModel) -> None:
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    wrapped = peft.get_peft_model(make_model("llama", blocks=3).model, config)
    with pytest.raises(ModelError, match="changes the prompt"):
        unwrapped(wrapped)
