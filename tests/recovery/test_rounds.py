"""Further rounds of a recovery test: when they begin, what ends them, and what they leave alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sf_tui.engine.compute import choose_compute
from sf_tui.engine.layout import read_layout
from sf_tui.engine.loading import load_model
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.profile import ModelSettings
from sf_tui.recovery.case import CaseTask, RecoveryCase
from sf_tui.recovery.recovery_test import RecoveryOutcome, RecoveryTest
from sf_tui.recovery.rounds import MOST_ROUNDS, MeanWeights, Rounds
from sf_tui.recovery.scoring import eval_set
from sf_tui.recovery.short_tuning import tune_briefly
from sf_tui.tasks.encoding import Encoded, encode_example
from sf_tui.tasks.task import Example
from support.start_scene import CITIES, COUNTRIES


@pytest.fixture(scope="module")
def lost(llama_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> RecoveryCase:
    """Return a small model that knew eight capitals before its weights were disturbed."""
    folder = tmp_path_factory.mktemp("lost")
    compute = choose_compute("float32", 1)
    loaded = load_model(ModelSettings(source=str(llama_directory)), folder, compute, seed=0)
    layout = read_layout(loaded.model)

    def rows(text: str) -> tuple[Encoded, ...]:
        return tuple(
            encode_example(Example(text.format(country), f" {city}"), loaded.tokenizer)
            for country, city in zip(COUNTRIES, CITIES, strict=True)
        )

    old, new = rows("What is the capital of {}?"), rows("Name a capital of {}.")
    case = RecoveryCase(
        loaded,
        layout,
        compute,
        CaseTask("old", "exact_match", eval_set(old * 4), old[:4]),
        CaseTask("new", "exact_match", eval_set(new), new),
        None,
        1e-4,
        batch_size=4,
        stage_tokens=2000,
    )
    known = case.examples_loss("known", old, 8)
    tune_briefly(loaded.model, layout, [known], steps=80, learning_rate=1e-2)
    loaded.model.save_pretrained(folder / "start")
    case.start = open_start_weights(folder / "start", loaded.model, layout)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return case


def run_test(case: RecoveryCase, time_s: float) -> RecoveryOutcome:
    return RecoveryTest(case, examples=4, time_s=time_s).run()


def test_without_time_no_round_is_made(lost: RecoveryCase) -> None:
    for time_s in (0, 1e-6):
        outcome = run_test(lost, time_s)
        assert (outcome.rounds.done, outcome.rounds.ended) == (0, "time")


def test_rounds_go_on_to_their_limit_and_change_nothing(lost: RecoveryCase) -> None:
    before = {name: p.detach().clone() for name, p in lost.model.named_parameters()}
    random = torch.random.get_rng_state()
    said: list[str] = []

    outcome = RecoveryTest(lost, examples=4, time_s=1e9, log=said.append).run()

    assert all(torch.equal(p, before[name]) for name, p in lost.model.named_parameters())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert outcome.rounds.ended in {"rounds", "decided", "teaches"}
    assert 1 <= outcome.rounds.done <= MOST_ROUNDS
    assert sum("undecided, round" in line for line in said) == outcome.rounds.done
    assert any(sentence.startswith("The verdict was open") for sentence in outcome.finding.evidence)
    again = run_test(lost, 1e9)
    assert again.rounds.done == outcome.rounds.done
    assert again.finding == outcome.finding
    for one, other in zip(outcome.arms, again.arms, strict=True):
        assert np.array_equal(one.recovered, other.recovered)


def test_time_that_is_over_is_told_only_of_an_open_verdict() -> None:
    over = Rounds(1, 20, "time")
    went_on, why = over.sentences("inconclusive", "neighbors", 30.0)
    assert "went on once, for 20 steps" in went_on
    assert why.startswith("Its time of 30 s was over")
    assert over.sentences("spurious", "neighbors", 30.0) == (went_on,)
    assert Rounds(ended="time").sentences("inconclusive", "neighbors", 0) == ()
    (more,) = Rounds(ended="rounds").sentences("inconclusive", "neighbors", 30.0)
    assert "more held-out examples" in more


def test_a_mean_leaves_what_is_frozen_bit_for_bit(lost: RecoveryCase) -> None:
    frozen, free = lost.layout.trainable_parameters[:2]
    own = [parameter.detach().clone() for parameter in (frozen, free)]
    frozen.requires_grad_(False)
    try:
        mean = MeanWeights(lost.layout)
        for _ in range(3):
            mean.add()
            with torch.no_grad():
                free += 1
        mean.load()
        assert torch.equal(frozen, own[0])
        assert torch.allclose(free, own[1] + 1)
    finally:
        frozen.requires_grad_(True)
        with torch.no_grad():
            free.copy_(own[1])
