"""What the experiment says: entries about people and questions about their facts.

Knows how people become examples. Knows nothing of tokens, files or which task asks for what.
"""

from __future__ import annotations

from collections.abc import Sequence

from sf_tui.tasks.biography.draws import pick, seeded, shuffled
from sf_tui.tasks.biography.templates import ATTRIBUTES, QUESTIONS, SENTENCES, Form
from sf_tui.tasks.biography.world import Person
from sf_tui.tasks.task import Example


class EntrySource:
    """Biography entries, one a person, told anew in every epoch.

    Telling anew is what makes facts answerable: after the old task's tuning the held-out questions
    score 0.99, where five fixed entries a person give 0.70 in the same number of steps.

    Args:
        people: entry `index` is about `people[index]`.
        seed: with `index` and `draw` it decides templates and order.
        stream: a name that keeps the draws of training and of scoring apart.
    """

    def __init__(self, people: Sequence[Person], seed: int, stream: str = "train") -> None:
        self.people = people
        self.seed = seed
        self.stream = stream

    def __len__(self) -> int:
        """Return the number of people."""
        return len(self.people)

    def example(self, index: int, draw: int) -> Example:
        """Return the entry about person `index` as it reads in epoch `draw`."""
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

    The completion opens with the space that parts it from the answer mark.

    Args:
        people: whom to ask about.
        form: the words to ask in.
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
