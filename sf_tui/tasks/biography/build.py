"""The tasks of the experiment: entries about people, questions about their facts.

Knows which people train and score which task. Knows nothing of tokens or files.
"""

from __future__ import annotations

from collections.abc import Sequence

from sf_tui.errors import UsageError
from sf_tui.tasks.biography.language import ATTRIBUTES, QUESTIONS, SENTENCES, Form
from sf_tui.tasks.biography.world import (
    NEW_TASKS,
    BiographySettings,
    Person,
    build_world,
    pick,
    seeded,
    shuffled,
)
from sf_tui.tasks.task import Example, FixedExamples, Task, guess_floor


class EntrySource:
    """Biography entries, one per person, drawn again in every epoch.

    New wording in every epoch makes facts answerable: after the old task, held-out questions score
    0.99, against 0.70 with five fixed entries per person in the same number of steps.

    Args:
        people: entry `index` is about `people[index]`.
        seed: determines templates and order, together with `index` and `draw`.
        stream: a name that separates the draws of training and of scoring.
    """

    def __init__(self, people: Sequence[Person], seed: int, stream: str = "train") -> None:
        self.people = people
        self.seed = seed
        self.stream = stream

    def __len__(self) -> int:
        """Return the number of people."""
        return len(self.people)

    def example(self, index: int, draw: int) -> Example:
        """Return the entry about person `index` in epoch `draw`."""
        stream = seeded("biography", self.seed, "entry", self.stream, index, draw)
        person = self.people[index]
        sentences = [
            pick(stream, SENTENCES[attribute]).format(
                name=person.name, value=person.facts[attribute]
            )
            for attribute in shuffled(stream, ATTRIBUTES)
        ]
        return Example(
            completion=" ".join(sentences), place=f"biography entry {index}, draw {draw}"
        )


def ask(people: Sequence[Person], form: Form, what: str) -> tuple[Example, ...]:
    """Return one question for each attribute of each person, grouped by attribute.

    The completion starts with the space after the answer mark.

    Args:
        people: the people asked about.
        form: the form of the questions.
        what: the task's name, for the examples' places.
    """
    return tuple(
        Example(
            prompt=QUESTIONS[form][attribute].format(name=person.name),
            completion=f" {person.facts[attribute]}",
            group=attribute,
            place=f"biography {what}: {person.name}, {attribute}",
        )
        for person in people
        for attribute in ATTRIBUTES
    )


TASKS: tuple[str, ...] = (
    "pretrain",
    "old",
    "new",
    *(f"new-{number}" for number in range(1, NEW_TASKS + 1)),
    "unseen",
)

# Entries are long (about 56 tokens); a hundred measure the loss well enough.
HELD_OUT_ENTRIES = 100


def biography_task(which: str, settings: BiographySettings) -> Task:
    """Build one task of the experiment.

    Args:
        which: `pretrain` (entries about all but the new people), `old` (questions about the tuned
            people, scored on the held-out people), `new-1` … `new-5` (questions about people that
            pretraining never mentions, scored on the same questions: memorization, as in the
            paper), `new`, which is `new-1`, or `unseen` (the old task's questions about people
            that no other task mentions: every right answer is a guess).
        settings: people, shares, form and seeds.

    Raises:
        UsageError: there is no such task, or the settings make no experiment.
    """
    if which not in TASKS:
        raise UsageError(
            f"the biography experiment has no task '{which}'", f"it has {', '.join(TASKS)}"
        )
    world = build_world(settings)
    if which == "pretrain":
        people = world.pretrained
        scored = EntrySource(people[:HELD_OUT_ENTRIES], settings.seed, stream="held-out")
        return Task(
            name=which,
            train=EntrySource(people, settings.seed),
            held_out=tuple(scored.example(index, 0) for index in range(len(scored))),
        )
    if which == "old":
        held_out = ask(world.held_out, "same", which)
        return Task(
            name=which,
            train=FixedExamples(ask(world.tuned, "same", which)),
            held_out=held_out,
            guess_floor=guess_floor(held_out),
        )
    if which == "unseen":
        return _same_questions(which, ask(world.unseen, "same", which))
    number = 1 if which == "new" else int(which.removeprefix("new-"))
    return _same_questions(which, ask(world.new[number - 1], settings.question_form, which))


def _same_questions(which: str, questions: tuple[Example, ...]) -> Task:
    """Return a task that is scored on its own training questions."""
    return Task(
        name=which,
        train=FixedExamples(questions),
        held_out=questions,
        guess_floor=guess_floor(questions),
    )
