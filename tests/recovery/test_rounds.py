"""Further rounds of a recovery test: when they begin, what ends them, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sf_tui.engine.compute import choose_compute
from sf_tui.engine.layout import read_layout
from sf_tui.engine.loading import load_model
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.engine.step import seed_draws
from sf_tui.engine.weights import Snapshot
from sf_tui.profile import ModelSettings
from sf_tui.recovery.case import CaseTask, RecoveryCase
from sf_tui.recovery.recovery_outcome import RecoveryOutcome
from sf_tui.recovery.recovery_test import RecoveryTest
from sf_tui.recovery.rounds import MeanWeights, Rounds
from sf_tui.recovery.scoring import EvalSet, eval_set
from sf_tui.recovery.short_tuning import tune_briefly
from sf_tui.tasks.encoding import Encoded, encode_example
from sf_tui.tasks.task import Example
from sf_tui.worker.held_clock import HeldClock
from support.start_scene import CITIES, COUNTRIES

# Of the neighbors arm: too few to bring the capitals back.
STEPS = 12


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
    return RecoveryTest(case, examples=4, steps=STEPS, time_s=time_s).run()


def test_without_time_no_round_is_made(lost: RecoveryCase) -> None:
    outcome = run_test(lost, 1e-6)
    assert (outcome.rounds.done, outcome.rounds.ended) == (0, "time")


def test_rounds_go_on_to_their_limit_and_change_nothing(
    lost: RecoveryCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sf_tui.recovery.rounds.MOST_ROUNDS", 2)
    before = {name: p.detach().clone() for name, p in lost.model.named_parameters()}
    random = torch.random.get_rng_state()
    said: list[str] = []

    outcome = RecoveryTest(lost, examples=4, steps=STEPS, time_s=1e9, log=said.append).run()

    assert all(torch.equal(p, before[name]) for name, p in lost.model.named_parameters())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert outcome.rounds.ended in {"rounds", "decided", "teaches"}
    assert 1 <= outcome.rounds.done <= 2
    assert sum("undecided, round" in line for line in said) == outcome.rounds.done
    assert any(sentence.startswith("The verdict was open") for sentence in outcome.finding.evidence)
    again = run_test(lost, 1e9)
    assert again.rounds.done == outcome.rounds.done
    assert again.finding == outcome.finding
    for one, other in zip(outcome.arms, again.arms, strict=True):
        assert np.array_equal(one.recovered, other.recovered)


def test_an_open_verdict_is_scored_on_more_examples_before_any_round(
    lost: RecoveryCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sf_tui.recovery.rounds.MOST_ROUNDS", 1)
    assert lost.old is not None
    before = {name: p.detach().clone() for name, p in lost.model.named_parameters()}
    spare = EvalSet(lost.old.held_out.rows * 2)
    more = replace(lost, old=replace(lost.old, spare=spare))
    first = run_test(more, 0)
    assert (first.rounds.done, first.rounds.ended, first.rounds.examples) == (0, "time", 0)
    said: list[str] = []

    outcome = RecoveryTest(more, examples=4, steps=STEPS, time_s=1e9, log=said.append).run()

    assert outcome.rounds.examples >= len(first.now)
    assert len(outcome.now) == len(first.now) + outcome.rounds.examples
    assert outcome.finding.estimates.examples == len(outcome.now)
    assert np.array_equal(outcome.now[: len(first.now)], first.now)
    assert outcome.start is not None
    assert len(outcome.start) == len(outcome.now)
    deciding = next(arm for arm in outcome.arms if arm.name == outcome.finding.arm)
    assert np.shape(deciding.recovered) == np.shape(outcome.now)
    widened = [at for at, line in enumerate(said) if "more held-out examples" in line]
    rounds = [at for at, line in enumerate(said) if "undecided, round" in line]
    assert widened
    assert all(at < round_at for at in widened for round_at in rounds)
    told = f"so {outcome.rounds.examples} more held-out examples were scored"
    assert any(told in sentence for sentence in outcome.finding.evidence)
    assert all(torch.equal(p, before[name]) for name, p in lost.model.named_parameters())


def test_time_for_which_a_test_is_held_does_not_count(
    lost: RecoveryCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sf_tui.recovery.rounds.MOST_ROUNDS", 1)
    now_s = [0.0]
    clock = HeldClock(lambda: now_s[0])

    def wait() -> None:
        now_s[0] += 1000.0

    def wait_held() -> None:
        clock.hold()
        wait()
        clock.go_on()

    shown: list[float | None] = []
    held = replace(lost, check_stop=wait_held, clock=clock)
    test = RecoveryTest(
        held, examples=4, steps=STEPS, time_s=60.0, report=lambda now: shown.append(now.left_s)
    )
    outcome = test.run()

    assert outcome.rounds.done == 1
    assert (outcome.seconds, outcome.rounds.seconds) == (0.0, 0.0)
    assert {arm.seconds for arm in outcome.arms} == {0.0}
    assert set(shown) == {None, 0.0}
    # The same wait counts where it isn't left out.
    waited = run_test(replace(lost, check_stop=wait, clock=lambda: now_s[0]), 60.0)
    assert (waited.rounds.done, waited.rounds.ended) == (0, "time")


def test_time_that_is_over_is_told_only_of_an_open_verdict() -> None:
    over = Rounds(1, 20, "time")
    went_on, why = over.sentences("inconclusive", "neighbors", 30.0)
    assert "went on once, for 20 steps" in went_on
    assert why.startswith("Its time of 30 s was over")
    assert over.sentences("spurious", "neighbors", 30.0) == (went_on,)
    assert Rounds(ended="time").sentences("inconclusive", "neighbors", 0) == ()
    (more,) = Rounds(ended="rounds").sentences("inconclusive", "neighbors", 30.0)
    assert "more held-out examples" in more


def test_a_known_score_of_the_start_is_not_measured_again(lost: RecoveryCase) -> None:
    asked: list[float] = []

    def score() -> float:
        asked.append(0.5)
        return 0.5

    assert lost.old is not None
    loss = lost.examples_loss("few", lost.old.train, 4)
    kept = Snapshot(lost.layout)
    found = [
        tune_briefly(
            lost.model, lost.layout, [loss], steps=2, learning_rate=1e-9, score=score, **known
        )
        for known in ({}, {"start_score": 0.75})
    ]
    kept.restore()
    assert len(asked) == 3 + 2
    assert [one.scores[0] for one in found] == [(0, 0.5), (0, 0.75)]
    assert (found[1].best_step, found[1].best_score) == (0, 0.75)


def test_step_draws_are_those_of_the_seed() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    seed_draws(7)
    assert torch.equal(torch.rand(3), expected)


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
