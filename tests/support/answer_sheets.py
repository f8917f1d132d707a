"""Sheets of answers as `ask` writes them, without a model."""

from __future__ import annotations

from collections.abc import Sequence

from sf_tui.run.answers import (
    AFTER_REPAIR,
    BEFORE_REPAIR,
    NOW,
    START,
    Answer,
    AnswerSheet,
    ModelState,
    Question,
)

COUNTRIES = ("Peru", "Chile", "Japan", "Norway", "Kenya", "Cuba", "Iran", "Nepal", "Ghana", "Fiji")
CITIES = (
    *("Lima", "Santiago", "Tokyo", "Oslo", "Nairobi"),
    *("Havana", "Tehran", "Kathmandu", "Accra", "Suva"),
)
STATES = (
    ModelState(START, 0, "checkpoints/new/step-000000"),
    ModelState(BEFORE_REPAIR, 40, "checkpoints/new/step-000040~1", 90),
    ModelState(AFTER_REPAIR, 40, "checkpoints/new/step-000040", 99),
    ModelState(NOW, 85),
)


def capitals(
    states: Sequence[ModelState] = STATES, *, stage: str = "new", step: int = 85, more: str = ""
) -> AnswerSheet:
    """Return a sheet with a task whose answers were lost, but for the last one.

    Args:
        states: states of the model.
        stage: the stage.
        step: its step.
        more: text that is appended to every question and answer.
    """
    questions = []
    for place, (country, city) in enumerate(zip(COUNTRIES, CITIES, strict=True)):
        wanted = f"The capital of {country} is {city}.{more}"
        wrong = Answer(f'{{"country": "{country}"}}{more}', tokens_right=1)
        last = place == len(CITIES) - 1
        answers = [Answer(wanted, right=True) if s.name != NOW or last else wrong for s in states]
        if BEFORE_REPAIR in [s.name for s in states] and not last:
            answers[1] = wrong
        questions.append(
            Question("old", place, f"What is the capital of {country}?{more}", wanted, 9, answers)
        )
    for place, country in enumerate(COUNTRIES[:4]):
        wanted = f'{{"continent": "{country}"}}{more}'
        learnt = [Answer(wanted, right=s.name != START) for s in states]
        questions.append(Question(stage, place, f"Facts of {country}{more}", wanted, 5, learnt))
    return AnswerSheet(stage, step, states, questions, len(states) - 1)
