"""A size is written in the nearest unit, and what there is one of in the singular."""

from __future__ import annotations

import pytest

from sf_tui.diagnosis.new_task import NewTask
from sf_tui.recovery.rounds import Rounds
from sf_tui.tui.activity import ActivityLog
from sf_tui.tui.panels.score_words import count_text
from sf_tui.vocabulary.consequences import recover_consequence
from sf_tui.vocabulary.events import Danger, StageStarted
from sf_tui.vocabulary.intervals import Estimate
from sf_tui.vocabulary.measured import Score, format_score
from sf_tui.vocabulary.metrics import metric_named
from sf_tui.vocabulary.sizes import counted, format_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (999, "999 B"),
        (12_700_000, "12.7 MB"),
        (999_500, "1.0 MB"),
        (150e9, "150 GB"),
        (4.2e12, "4.2 TB"),
        (2**63, "9.2 EB"),
        (1e22, "10000 EB"),
    ],
)
def test_a_size_is_written_in_the_nearest_unit(count: float | None, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 steps"),
        (1, "1 step"),
        (2, "2 steps"),
        (11, "11 steps"),
        ("no", "no steps"),
        ("1", "1 step"),
        ("+1", "+1 step"),
        ("−1", "−1 step"),
        ("1.0", "1.0 steps"),
        ("1,200", "1,200 steps"),
    ],
)
def test_one_is_followed_by_the_singular(count: int | str, text: str) -> None:
    assert counted(count, "step") == text


def _shown(event: StageStarted | Danger) -> str:
    activity = ActivityLog()
    activity.add(event)
    return activity.rows[-1].text


_HALF = Estimate(0.5, 0.0, 1.0)
_LOSS = Score(0.5, 1, metric_named("nll"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_shown(StageStarted(stage="new", task="new", steps=1)), "task new, 1 step"),
        (_shown(Danger(stage="new", step=0, state="entered", window=1)), "entered (1 step)"),
        (format_score(_LOSS, counts=True), ", 1 example"),
        (count_text(_LOSS), "1 example"),
        (
            " ".join(recover_consequence({"steps": 1, "examples": 1})),
            "neighbor prompts and 1 old example, 1 step at most.",
        ),
        (
            " ".join(recover_consequence({"steps": 1, "examples": 0})),
            "neighbor prompts and no old examples, 1 step at most.",
        ),
        (
            Rounds(examples=1).sentences("spurious", "examples", 60)[0],
            "so 1 more held-out example was scored.",
        ),
        (
            Rounds(1, 1).sentences("spurious", "examples", 60)[0],
            "went on once, for 1 step in all.",
        ),
        (
            NewTask("new", 1, _HALF, None, 0.5, False).sentence(is_lost=True),
            "on 1 held-out example, guessing 0.500)",
        ),
    ],
)
def test_sentences_about_one_thing(text: str, expected: str) -> None:
    assert expected in text
