"""Every causal family of transformers is probed, frozen, tuned and saved right, or refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

from sf_tui.engine.composite import class_to_load, has_text_part
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.layout import Freezer, read_layout
from sf_tui.engine.observation import Observation
from sf_tui.engine.probing import Prober
from sf_tui.engine.weight_check import refuse_kind, refuse_looking_ahead, refuse_other_positions
from sf_tui.errors import ModelError
from sf_tui.tasks.encoding import Encoded
from support.families import VOCABULARY, tiny_config
from support.tiny_models import MakeTuner, weights

FAMILIES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

# One of each habit: fused projections, learned positions, alibi, soft caps, per-layer embeddings,
# a norm behind the embeddings, experts, latent attention, two blocks a layer, linear attention.
FAST = (
    "gpt2",
    "bloom",
    "gemma2",
    "gemma3n_text",
    "modernbert-decoder",
    "mixtral",
    "deepseek_v3",
    "longcat_flash",
    "qwen3_next",
)

# Refused when it is loaded, by its family's name or its config.
BY_KIND = {
    "blt": "patches of bytes",
    "cpmant": "from the end of the row",
    "gemma4_assistant": "states of another model",
    "gemma4_unified_assistant": "states of another model",
    "reformer": "whole chunks",
    "xlm": "encoder",
    "xlnet": "at its own place",
}
# Refused for what the model does; its small model is made.
BY_STRUCTURE = {
    "camembert": "counts positions from 1",
    "data2vec-text": "counts positions from 1",
    "hrm_text": "run in turns",
    "roberta": "counts positions from 1",
    "roberta-prelayernorm": "counts positions from 1",
    "xlm-roberta": "counts positions from 1",
    "xlm-roberta-xl": "counts positions from 1",
    "xmod": "counts positions from 1",
}
# Their text part is tuned, which test_composite.py tries; here only that they are known as such.
COMPOSITES = (
    "dots3_note",
    "emu3",
    "fuyu",
    "gemma3",
    "gemma3n",
    "gemma4",
    "gemma4_unified",
    "got_ocr2",
    "llama4",
    "mllama",
    "moss_transcribe_diarize",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen4_exp",
)
ENCODER_DECODERS = {
    "musicgen": "MusicgenForConditionalGeneration",
    "musicgen_melody": "MusicgenMelodyForConditionalGeneration",
}
REST = {*BY_KIND, *BY_STRUCTURE, *COMPOSITES, *ENCODER_DECODERS}


def build(kind: str) -> Any:
    config = tiny_config(kind)
    # Sizes that no key in `SIZES` reaches would fill the machine's memory.
    with torch.device("meta"):
        described: Any = AutoModelForCausalLM.from_config(config)
    count = sum(parameter.numel() for parameter in described.parameters())
    assert count < 5_000_000, f"{count} weights are not tiny"
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config)
    model.config.use_cache = False
    settings: Any = model.generation_config
    # Chosen whatever the logits say, where a translation or a summary reaches its longest.
    settings.forced_eos_token_id = None
    return model.float().eval()


def make_shared_rows(count: int) -> list[Encoded]:
    """Return rows of uneven length that open alike, as behind one system turn."""
    random = np.random.default_rng(0)
    opening = [int(token) for token in random.integers(4, VOCABULARY, 10)]
    rows = []
    for _ in range(count):
        length, answer = int(random.integers(5, 15)), int(random.integers(1, 4))
        ids = opening + [int(token) for token in random.integers(4, VOCABULARY, length)]
        rows.append(Encoded(ids, [-100] * (len(ids) - answer) + ids[-answer:]))
    return rows


def check_probe(model: Any, compute: ComputeSetting) -> None:
    """A probe of a batch behind a kept prefix is that of each row alone, and of `generate`."""
    rows = make_shared_rows(6)
    together = Prober(model, compute, pad_id=0, batch_tokens=1000).probe(rows)
    alone = Prober(model, compute, pad_id=0, batch_tokens=1000, batch_size=1).probe(rows)
    np.testing.assert_allclose(together.nll, alone.nll, rtol=2e-4, atol=2e-4)
    answered = []
    for row in rows[:2]:
        prompt = torch.tensor([row.input_ids[:-2]])
        with torch.no_grad():
            found = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=4,
                min_new_tokens=4,
                do_sample=False,
                pad_token_id=0,
                # Random weights may well choose it; it isn't what is tried here.
                eos_token_id=None,
            )[0].tolist()
        given = prompt.shape[1]
        answered.append(Encoded(found, [-100] * given + found[given:]))
        last = [*found[:-1], 3 if found[-1] != 3 else 4]
        answered.append(Encoded(last, [-100] * given + last[given:]))
    exact = Prober(model, compute, pad_id=0, batch_tokens=1000).probe(answered).exact
    assert exact.tolist() == [True, False] * 2


def check_freezing(model: Any, make_tuner: MakeTuner) -> None:
    """Nothing frozen moves, and no gradient flows into what stands before the blocks."""
    layout = read_layout(model)
    names = [name for layer in layout.layers for name in layer.parameters]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    freezer = Freezer(layout)
    # The blocks stay free: an input that asks for a gradient would show.
    freezer.freeze(0, embeddings=True)
    asked: list[bool] = []
    first = {id(parameter) for parameter in layout.blocks[0].parameters.values()}
    block = min(
        (
            module
            for module in model.modules()
            if first <= {id(parameter) for parameter in module.parameters()}
        ),
        key=lambda module: sum(1 for _ in module.parameters()),
    )

    def look(_: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        values = [*arguments, *keywords.values()]
        asked.append(
            any(isinstance(value, torch.Tensor) and value.requires_grad for value in values)
        )

    handle = block.register_forward_pre_hook(look, with_kwargs=True)
    freezer.freeze(1, embeddings=True)
    before = weights(model)
    tuner = make_tuner(model, make_shared_rows(8), layout=layout, weight_decay=0.5)
    for _ in range(2):
        tuner.advance()
    handle.remove()
    assert asked
    assert not any(asked)
    frozen = {name for layer in (layout.embeddings, layout.blocks[0]) for name in layer.parameters}
    after = weights(model)
    assert not [name for name in frozen if not torch.equal(before[name], after[name])]
    assert any(not torch.equal(before[name], after[name]) for name in before)
    model.eval()


def check_saving(model: Any, path: Path) -> None:
    """What is saved is what is loaded."""
    model.save_pretrained(path)
    auto: Any = AutoModelForCausalLM
    again, report = auto.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
    assert not report["unexpected_keys"]
    before, after = weights(model), weights(again)
    assert before.keys() == after.keys()
    assert not [name for name in before if not torch.equal(before[name], after[name])]


def check_family(kind: str, compute: ComputeSetting, make_tuner: MakeTuner, tmp_path: Path) -> None:
    model = build(kind)
    check_probe(model, compute)
    check_freezing(model, make_tuner)
    check_saving(model, tmp_path / "saved")


@pytest.mark.parametrize("kind", FAST)
def test_family_is_probed_frozen_and_saved_exactly(
    kind: str, compute: ComputeSetting, make_tuner: MakeTuner, tmp_path: Path
) -> None:
    check_family(kind, compute, make_tuner, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [name for name in FAMILIES if name not in REST])
def test_every_causal_family(
    kind: str, compute: ComputeSetting, make_tuner: MakeTuner, tmp_path: Path
) -> None:
    check_family(kind, compute, make_tuner, tmp_path)


@pytest.mark.parametrize("kind", BY_KIND)
def test_family_that_continues_no_row_is_refused(kind: str) -> None:
    config: Any = SimpleNamespace(model_type=kind)
    with pytest.raises(ModelError, match=BY_KIND[kind]) as caught:
        refuse_kind("some/model", config)
    assert kind in caught.value.message


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind in ("roberta", "hrm_text") else pytest.mark.slow)
        for kind in BY_STRUCTURE
    ],
)
def test_family_with_a_habit_that_sf_has_not_is_refused(kind: str) -> None:
    model = build(kind)
    with pytest.raises(ModelError, match=BY_STRUCTURE[kind]):  # noqa: PT012 - whichever refuses
        refuse_other_positions("some/model", model)
        read_layout(model)


@pytest.mark.parametrize("kind", COMPOSITES)
def test_family_with_another_part_is_loaded_whole(kind: str) -> None:
    config = CONFIG_MAPPING[kind]()
    assert has_text_part(config)
    loaded = class_to_load("some/model", config).__name__
    assert loaded == MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES[kind]
    config.architectures = [loaded]
    assert class_to_load("some/model", config).__name__ == loaded


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_family_that_generates_sound_is_refused(kind: str) -> None:
    config: Any = SimpleNamespace(
        model_type=kind, is_encoder_decoder=True, architectures=[ENCODER_DECODERS[kind]]
    )
    with pytest.raises(ModelError, match="encoder-decoder"):
        class_to_load("some/model", config)


@pytest.mark.parametrize("kind", ["gpt2", "mixtral", "qwen3_next", "mamba2"])
def test_model_that_looks_back_alone_is_taken(kind: str) -> None:
    model = build(kind)
    before = torch.random.get_rng_state()
    refuse_looking_ahead("some/model", Observation(model))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training


@pytest.mark.parametrize("kind", ["gemma3_text", "roberta"])
def test_model_whose_tokens_see_what_comes_after_is_refused(kind: str) -> None:
    ahead = {"gemma3_text": {"use_bidirectional_attention": True}, "roberta": {"is_decoder": False}}
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(tiny_config(kind, **ahead[kind]))
    with pytest.raises(ModelError, match="sees what comes after"):
        refuse_looking_ahead("some/model", Observation(model))
