from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.bench.generation import Comparison, GreedyDecoder, Question
from sf_tui.bench.harness import Clock
from sf_tui.bench.scene import make_scene
from sf_tui.engine.batches import FixedSource
from sf_tui.engine.loop import StageTuner
from sf_tui.engine.prepare import PreparedRun, prepare_run
from sf_tui.tasks.encoding import NO_LOSS, Encoded
from support.ticking_clock import TickingClock


@pytest.fixture(scope="module")
def half_learnt(llama_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedRun:
    """Return a model that knows half of its held-out rows by heart."""
    profile = make_scene(
        str(llama_directory),
        tmp_path_factory.mktemp("scene"),
        batch_size=16,
        threads=1,
        settings={"train.steps": 150, "train.learning_rate": 1e-2},
    )
    prepared = prepare_run(profile, 1)
    tuner = StageTuner(
        prepared.loaded.model,
        prepared.layout,
        FixedSource(prepared.tasks["new"].held_out[:32]),
        profile.stage_train("new"),
        prepared.compute,
        stage="new",
        seed=0,
        pad_id=prepared.loaded.pad_id,
    )
    for _ in range(150):
        tuner.advance()
    return prepared


def test_a_question_is_the_row_taken_apart() -> None:
    row = Encoded([5, 6, 7, 2], [NO_LOSS, NO_LOSS, 7, 2])
    question = Question.of(row)
    assert (question.prompt, question.answer) == ([5, 6], [7, 2])
    assert question.as_row() == row


def test_probe_and_generate_agree_on_every_example(half_learnt: PreparedRun) -> None:
    rows = half_learnt.tasks["new"].held_out
    by_probe, by_generate = Comparison(
        half_learnt.loaded, half_learnt.compute, rows, Clock(True)
    ).exact(8)
    assert 0.2 < by_probe.mean() < 0.9
    assert (by_probe == by_generate).all()


def test_the_batch_changes_nothing_about_what_is_generated(half_learnt: PreparedRun) -> None:
    questions = [Question.of(row) for row in half_learnt.tasks["new"].held_out]
    alone, together = (
        GreedyDecoder(half_learnt.loaded, half_learnt.compute, size).exact(questions)
        for size in (1, 16)
    )
    assert (alone == together).all()


def test_speed_is_measured_on_answers_of_the_length_asked_for(half_learnt: PreparedRun) -> None:
    rows = half_learnt.tasks["new"].held_out
    # A probe, `generate`, and nothing between two rounds.
    clock = TickingClock(seconds_between_readings=(0.0, 2.0, 10.0))
    comparison = Comparison(half_learnt.loaded, half_learnt.compute, rows, clock)
    long, own = comparison.speed(8, 20), comparison.speed(8, None)
    assert long.answer_tokens == 20
    assert own.answer_tokens < 10
    for speed in (long, own):
        assert (speed.probe_seconds, speed.generate_seconds) == (2.0, 10.0)
        assert speed.times_faster == 5.0
