"""Every causal family of transformers is probed, frozen, tuned and saved as it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from engine.conftest import MakeTuner, weights
from engine.families import VOCABULARY, tiny_config
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.freezing import Freezer
from sf_tui.engine.layout import read_layout
from sf_tui.engine.probing import Prober
from sf_tui.errors import ModelError
from sf_tui.tasks.encoding import Encoded

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

UNSUPPORTED: dict[str, str] = {
    "bailing_hybrid": "not built: this config has no attention layer",
    "bart": "not settled: greedy `generate` gives other tokens",
    "blenderbot": "not settled: greedy `generate` gives other tokens",
    "blenderbot-small": "not settled: greedy `generate` gives other tokens",
    "blt": "not built: no small config yet (sizes in nested configs)",
    "camembert": "not settled: greedy `generate` gives other tokens",
    "cohere_compass_text": "not built or run: KeyError: 'full_attention'",
    "cpmant": "not built or run: IndexError: The shape of the mask [6, 14] at index 1 does not m",
    "data2vec-text": "not settled: greedy `generate` gives other tokens",
    "dbrx": "not built or run: AttributeError: 'DbrxAttentionConfig' object has no attribute 'rop",
    "dory": "not settled: a free parameter feeds the first block",
    "dots3_note": "not built: no small config yet (sizes in nested configs)",
    "dots3_note_text": "not built: no small config yet (sizes in nested configs)",
    "emu3": "not built: no small config yet (sizes in nested configs)",
    "falcon_h1": "not built or run: StrictDataclassClassValidationError: Class validation error",
    "fuyu": "not built: no small config yet (sizes in nested configs)",
    "gemma3": "not built: no small config yet (sizes in nested configs)",
    "gemma3n": "not built or run: ImportError:",
    "gemma4": "not built: no small config yet (sizes in nested configs)",
    "gemma4_assistant": "not built or run: StrictDataclassClassValidationError: Class validation",
    "gemma4_text": "not built: no small config yet (sizes in nested configs)",
    "gemma4_unified": "not built: no small config yet (sizes in nested configs)",
    "gemma4_unified_assistant": "not built: no small config yet (sizes in nested configs)",
    "git": "not built: no small config yet (sizes in nested configs)",
    "got_ocr2": "not built: no small config yet (sizes in nested configs)",
    "hrm_text": "refused by read_layout: runs two stacks in turns",
    "inkling2_loop_text": "not built: no small config yet (sizes in nested configs)",
    "inkling2_text": "not built: no small config yet (sizes in nested configs)",
    "kimi_linear": "not built: no small config yet (sizes in nested configs)",
    "lfm2_moe": "not built or run: TypeError: 'NoneType' object is not subscriptable",
    "llama4": "not built: no small config yet (sizes in nested configs)",
    "marian": "not settled: greedy `generate` gives other tokens",
    "mbart": "not settled: greedy `generate` gives other tokens",
    "mimo_v2_flash": "not built or run: RuntimeError: The size of tensor a (4) must match the si",
    "mllama": "not built: no small config yet (sizes in nested configs)",
    "moss_transcribe_diarize": "not built: no small config yet (sizes in nested configs)",
    "musicgen": "not built or run: AttributeError: 'MusicgenConfig' object has no attribute 'dro",
    "musicgen_melody": "not built or run: AttributeError: 'MusicgenMelodyConfig' object has no a",
    "pegasus": "not settled: greedy `generate` gives other tokens",
    "phi4_multimodal": "not built: no small config yet (sizes in nested configs)",
    "plbart": "not settled: greedy `generate` gives other tokens",
    "prophetnet": "not built or run: AssertionError: At the moment `use_cache` is only supported",
    "qwen3_5": "not built: no small config yet (sizes in nested configs)",
    "qwen3_5_moe": "not built: no small config yet (sizes in nested configs)",
    "qwen4_exp": "not built or run: TypeError: unsupported operand type(s) for //: 'NoneType' an",
    "qwen4_exp_text": "not built or run: TypeError: unsupported operand type(s) for //: 'NoneTyp",
    "reformer": "not built or run: ValueError: Make sure that config.axial_pos_embds factors: (6",
    "roberta": "not settled: greedy `generate` gives other tokens",
    "roberta-prelayernorm": "not settled: greedy `generate` gives other tokens",
    "roc_bert": "not built: no small config yet (sizes in nested configs)",
    "xlm": "not settled: greedy `generate` gives other tokens",
    "xlm-roberta": "not settled: greedy `generate` gives other tokens",
    "xlm-roberta-xl": "not settled: greedy `generate` gives other tokens",
    "xlnet": "not built or run: StrictDataclassClassValidationError: Class validation error for va",
    "xlstm": "not built or run: ValueError: matC_old has wrong shape, got torch.Size([1, 4, 16, 16",
    "xmod": "not built or run: ValueError: Input language unknown. Please call `XmodPreTrainedMod",
    "zamba": "not built or run: ValueError: There is an issue with your definition of `tie_weights",
    "zamba2": "not built or run: StrictDataclassClassValidationError: Class validation error for",
    "zaya": "not built or run: StrictDataclassClassValidationError: Class validation error for va",
}
"""Families that this test can't build or run, with the reason; most want a config of their own."""


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
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_causal_family(
    kind: str, compute: ComputeSetting, make_tuner: MakeTuner, tmp_path: Path
) -> None:
    if kind not in UNSUPPORTED:
        check_family(kind, compute, make_tuner, tmp_path)
        return
    # One that works from now on has to leave the list.
    with pytest.raises((Exception, ModelError)):
        check_family(kind, compute, make_tuner, tmp_path)
