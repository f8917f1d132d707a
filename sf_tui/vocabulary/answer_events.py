"""The events about what the model answers to held-out questions and to an operator's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from sf_tui.vocabulary.declared import STEPS, Count, Doc
from sf_tui.vocabulary.event import Event


@dataclass(frozen=True, slots=True)
class AnswersWritten(Event):
    """The answers to a stage's held-out questions were written to a file by `ask`."""

    TYPE: ClassVar[str] = "answers"

    stage: Annotated[str, Doc("stage name")]
    step: Annotated[Count, Doc("steps done in the stage", STEPS)]
    path: Annotated[str, Doc("the file in the run directory; the next one replaces it")]
    examples: Annotated[Count, Doc("questions", "examples")] = 0
    lost: Annotated[Count, Doc("right at the stage's start and wrong now", "examples")] = 0
    gained: Annotated[Count, Doc("wrong at the stage's start and right now", "examples")] = 0


@dataclass(frozen=True, slots=True)
class QuestionAnswered(Event):
    """The model answered a question of an operator's own, given to `ask`."""

    TYPE: ClassVar[str] = "question"

    stage: Annotated[str, Doc("stage name")]
    step: Annotated[Count, Doc("steps done in the stage", STEPS)]
    question: Annotated[str, Doc("the question")]
    answered: Annotated[str, Doc("the greedy answer of the current weights")] = ""
    ended: Annotated[bool, Doc("false: it was cut before the model ended it")] = True
    start: Annotated[str | None, Doc("the answer at the stage's start; null: unknown")] = None
    command: Annotated[str, Doc("id of the command that asked")] = ""
