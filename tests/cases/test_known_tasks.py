"""A task that the model does not know as it is asked is reported with the model's own answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sf_tui.cases.known_tasks import (
    TaskStart,
    describe_unknown,
    measure_starts,
    sample_answers,
)
from sf_tui.engine.prepare import PreparedRun, prepare_run
from sf_tui.profile import parse_profile
from sf_tui.vocabulary.measured import Score
from sf_tui.vocabulary.metrics import metric_named
from support.tiny_models import weights


def start_of(right: int, examples: int, floor: float) -> TaskStart:
    score = Score(right / examples, examples, metric_named("exact_match"))
    return TaskStart("old", score, floor)


@pytest.mark.parametrize(
    ("right", "examples", "floor", "known"),
    [
        (0, 48, 0.0, False),
        (48, 48, 0.02, True),
        (3, 48, 0.02, False),
        (12, 48, 0.02, True),
        (116, 200, 0.5, False),
        (150, 200, 0.5, True),
        (2, 2, 1.0, True),
    ],
)
def test_a_task_is_known_above_guessing(
    right: int, examples: int, floor: float, known: bool
) -> None:
    assert start_of(right, examples, floor).is_known is known


@pytest.fixture(scope="module")
def prepared(llama_directory: Path, two_schemas: tuple[Path, Path]) -> PreparedRun:
    """Return a run of an untuned Llama that knows neither task."""
    return prepare_run(
        parse_profile(
            f'name = "m"\nmodel.source = "{llama_directory}"\n'
            f'[[tasks]]\nname = "old"\ndata = "{two_schemas[0]}"\nheld_out = 8\n'
            f'[[tasks]]\nname = "new"\ndata = "{two_schemas[1]}"\n'
        ),
        None,
    )


def test_three_answers_stand_beside_the_wanted_ones(prepared: PreparedRun) -> None:
    (start,) = measure_starts(prepared, ["old"])
    assert (start.score.examples, start.is_known) == (8, False)
    answers = sample_answers(prepared, prepared.tasks["old"])
    assert len(answers) == 3
    assert all("capital of" in one.asked for one in answers)
    assert all(one.wanted and one.wanted != one.answered for one in answers)
    text = describe_unknown(start, answers)
    assert "\n" not in text
    assert f'asked: "{answers[0].asked}", wanted: "{answers[0].wanted}"' in text
    assert "'old' starts at 0.00 ± 0.32, 0 of 8 (exact_match)" in text


def test_asking_changes_neither_weights_nor_random_state_nor_modes(prepared: PreparedRun) -> None:
    model = prepared.loaded.model
    model.train()
    before, state = weights(model), torch.get_rng_state()
    modes = [module.training for module in model.modules()]
    measure_starts(prepared, ["old"])
    sample_answers(prepared, prepared.tasks["old"])
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(now, before[name]) for name, now in weights(model).items())
    assert all(p.grad is None for p in model.parameters())
