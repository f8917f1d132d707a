"""A probe's measures are what generating and scoring each answer slowly would give."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.loading import LoadedModel, load_model
from sf_tui.engine.prepare import read_task
from sf_tui.engine.probing import Prober, ProbeResult
from sf_tui.profile import ModelSettings, load_profile
from sf_tui.tasks.encoded_examples import encode_all
from sf_tui.tasks.encoding import Encoded, Encoder
from sf_tui.tasks.task import Example
from support.tiny_models import MakeModel, MakeTuner, make_rows


def probe(loaded: LoadedModel, rows: list[Encoded], compute: ComputeSetting) -> ProbeResult:
    prober = Prober(loaded.model, compute, pad_id=loaded.pad_id, batch_tokens=400)
    return prober.probe(rows)


@torch.no_grad()
def generated_exactly(loaded: LoadedModel, row: Encoded) -> bool:
    """Let the model answer greedily and compare token by token."""
    start = next(at for at, label in enumerate(row.labels) if label != -100)
    prompt = torch.tensor([row.input_ids[:start]])
    wanted = row.input_ids[start:]
    found = loaded.model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=len(wanted),
        do_sample=False,
        use_cache=True,
        pad_token_id=loaded.pad_id,
        eos_token_id=loaded.tokenizer.eos_token_id,
    )
    return found[0, start:].tolist() == wanted


def test_measures_are_those_of_a_slow_plain_computation(
    make_model: MakeModel, make_tuner: MakeTuner, compute: ComputeSetting
) -> None:
    loaded = make_model("llama")
    rows = make_rows(24)
    tuner = make_tuner(loaded.model, rows[:12], batch_size=12)
    for _ in range(60):
        tuner.advance()
    result = probe(loaded, rows, compute)

    exact, first, right, total, nll = [], [], 0, 0, 0.0
    loaded.model.eval()
    for row in rows:
        with torch.no_grad():
            chances = loaded.model(torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
        answer = [(at, label) for at, label in enumerate(row.labels[1:]) if label != -100]
        hits = [int(chances[at].argmax()) == label for at, label in answer]
        exact.append(all(hits))
        first.append(hits[0])
        right += sum(hits)
        total += len(hits)
        nll -= sum(float(chances[at, label]) for at, label in answer)

    assert result.exact.tolist() == exact
    assert result.first_token.tolist() == first
    measures = result.measures()
    assert 0 < measures["exact_match"] < 1
    assert measures == {
        "exact_match": pytest.approx(np.mean(exact)),
        "first_token_accuracy": pytest.approx(np.mean(first)),
        "token_accuracy": pytest.approx(right / total),
        "nll": pytest.approx(nll / total, rel=1e-5),
        "n": 24,
    }


def test_measures_of_a_subset_are_those_of_probing_it_alone(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    loaded = make_model("gpt2")
    rows = make_rows(20)
    chosen = [1, 4, 5, 17]
    alone = probe(loaded, [rows[at] for at in chosen], compute).measures()
    part = probe(loaded, rows, compute).measures(chosen)
    assert part == pytest.approx(alone, rel=1e-5)
    assert part["n"] == 4


@pytest.mark.parametrize("batch_tokens", [1, 25, 10_000])
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_result_does_not_depend_on_how_the_examples_are_batched(
    make_model: MakeModel, compute: ComputeSetting, batch_tokens: int, batch_size: int | None
) -> None:
    loaded = make_model("gpt_neox")
    rows = make_rows(10)
    prober = Prober(
        loaded.model, compute, pad_id=0, batch_tokens=batch_tokens, batch_size=batch_size
    )
    result, expected = prober.probe(rows), probe(loaded, rows, compute)
    assert result.correct_tokens.tolist() == expected.correct_tokens.tolist()
    assert result.answer_tokens.tolist() == [row.answer_tokens for row in rows]
    np.testing.assert_allclose(result.nll, expected.nll, rtol=1e-4)


def test_probe_leaves_the_training_mode_and_the_random_numbers_alone(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    loaded = make_model("gpt_neox")
    loaded.model.train()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    probe(loaded, make_rows(4), compute)
    assert loaded.model.training
    assert torch.equal(torch.rand(2), expected)
    loaded.model.eval()
    probe(loaded, make_rows(4), compute)
    assert not loaded.model.training


def test_model_that_has_burst_is_measured_without_an_error(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    loaded = make_model("llama")
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.fill_(math.nan)
    measures = probe(loaded, make_rows(4), compute).measures()
    assert math.isnan(measures["nll"])
    assert measures["exact_match"] == 0


@pytest.mark.parametrize("task", ["old", "new"])
def test_exact_match_is_greedy_generation_on_every_example_of_gpt_neox(
    finished_run: Path, compute: ComputeSetting, task: str
) -> None:
    # `new` is known to the last token and `old` nearly lost at the end of this run.
    profile = load_profile(finished_run / "profile.toml")
    model = ModelSettings(source=str(finished_run / "model"))
    loaded = load_model(model, Path.cwd(), compute, seed=0)
    examples = read_task(profile, profile.task(task)).held_out
    rows = encode_all(examples, loaded.tokenizer).rows
    result = probe(loaded, rows, compute)
    assert result.exact.tolist() == [generated_exactly(loaded, row) for row in rows]
    assert result.exact.any()


def test_exact_match_is_greedy_generation_on_every_example_of_llama(
    llama_directory: Path, make_tuner: MakeTuner, compute: ComputeSetting
) -> None:
    settings = ModelSettings(source=str(llama_directory))
    loaded = load_model(settings, Path.cwd(), compute, seed=0)
    encoder = Encoder(loaded.tokenizer)
    rows = [
        encoder.encode(Example(f"What is the capital of {country}?\n", city))
        for country, city in (("Austria", "Vienna"), ("Chile", "Santiago"), ("Peru", "Lima"),
                              ("Egypt", "Cairo"), ("Japan", "Tokyo"), ("Spain", "Madrid"))
    ]  # fmt: skip
    tuner = make_tuner(loaded.model, rows[:3], batch_size=3, learning_rate=3e-3)
    for _ in range(40):
        tuner.advance()
    result = probe(loaded, rows, compute)
    assert result.exact.tolist() == [generated_exactly(loaded, row) for row in rows]
    assert result.exact.tolist() == [True] * 3 + [False] * 3
