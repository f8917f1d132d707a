"""The people of the experiment, their facts, and the part of the experiment that each belongs to.

All are drawn from seeds, with draws that are the same on every Python version. Knows nothing of
sentences, questions or tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeVar

from sf_tui.errors import UsageError
from sf_tui.tasks.biography.language import (
    CITIES,
    COMPANIES,
    DAYS,
    FIRST_NAMES,
    FORMS,
    MAJORS,
    MIDDLE_NAMES,
    MONTHS,
    SURNAMES,
    UNIVERSITIES,
    YEARS,
    Form,
)

NEW_TASKS = 5

# Six questions each: 300 questions measure a guess floor of 0.05 to within 0.03.
UNSEEN_PEOPLE = 50

# Of the 2.6 million full names; with more people, drawing unused names would be slow.
MOST_PEOPLE = 1_000_000


class BiographySettings(Protocol):
    """The settings of the experiment, as in a profile's `[biography]` table."""

    @property
    def people(self) -> int:
        """Number of people in pretraining."""
        ...

    @property
    def train_share(self) -> float:
        """Share of them whose questions the old task trains; the others are held out."""
        ...

    @property
    def new_people(self) -> int:
        """Number of people in each new task."""
        ...

    @property
    def question_form(self) -> Form:
        """Form of the new tasks' questions."""
        ...

    @property
    def seed(self) -> int:
        """Determines the pretraining people, their facts and the cities of companies."""
        ...

    @property
    def new_seed(self) -> int:
        """Determines, together with `seed`, the new people."""
        ...


@dataclass(frozen=True)
class Settings:
    """The experiment's settings outside a profile, with the same defaults."""

    people: int = 400
    train_share: float = 0.75
    new_people: int = 25
    question_form: Form = "same"
    seed: int = 0
    new_seed: int = 0


@dataclass(frozen=True)
class Person:
    """A full name of three words and, for each attribute, its value."""

    name: str
    facts: dict[str, str]


@dataclass(frozen=True)
class World:
    """All people of the experiment; no name occurs twice."""

    tuned: tuple[Person, ...]
    held_out: tuple[Person, ...]
    new: tuple[tuple[Person, ...], ...]
    """The people of new-1 … new-5, whom pretraining never mentions."""
    unseen: tuple[Person, ...]
    """People that no other task mentions."""

    @property
    def pretrained(self) -> tuple[Person, ...]:
        """All people in pretraining."""
        return self.tuned + self.held_out


def check_settings(settings: BiographySettings) -> None:
    """Refuse settings that make no experiment.

    Raises:
        UsageError: with the setting and its allowed values.
    """
    if settings.people < 2:
        raise UsageError(
            f"biography.people is {settings.people}; it must be at least 2",
            "one part of the people is tuned on, the other is held out",
        )
    if settings.new_people < 1:
        raise UsageError(
            f"biography.new_people is {settings.new_people}; it must be at least 1",
            "a new task needs somebody to ask about",
        )
    if settings.people + NEW_TASKS * settings.new_people > MOST_PEOPLE:
        raise UsageError(
            f"biography.people and {NEW_TASKS} x biography.new_people come to more than "
            f"{MOST_PEOPLE:,} names",
            "there are no more different names to give; ask for fewer people",
        )
    if not 0 < settings.train_share < 1:
        raise UsageError(
            f"biography.train_share is {settings.train_share}; it must lie between 0 and 1",
            "it is the share of the people whose questions the old task trains, e.g. 0.75",
        )
    if settings.question_form not in FORMS:
        raise UsageError(
            f"biography.question_form is '{settings.question_form}'; wanted one of "
            f"{', '.join(FORMS)}",
            "'other' asks about new people in words that the old questions don't use",
        )


def build_world(settings: BiographySettings) -> World:
    """Draw all people and their facts from the settings' seeds, the same on every machine.

    More people with the same seed include the same people; the pretraining people don't depend on
    `new_people` or `new_seed`.

    Raises:
        UsageError: the settings make no experiment.
    """
    check_settings(settings)
    return _build(
        settings.people, settings.train_share, settings.new_people, settings.seed, settings.new_seed
    )


@lru_cache(maxsize=8)
def _build(people: int, tuned: float, new_people: int, seed: int, new_seed: int) -> World:
    # A company keeps its city for new people.
    sites = seeded("biography", seed, "sites")
    company_city = {company: pick(sites, CITIES) for company in COMPANIES}
    taken: set[str] = set()
    old = _draw_people(seeded("biography", seed, "people"), people, company_city, taken)
    new = tuple(
        _draw_people(
            seeded("biography", seed, "new", new_seed, number), new_people, company_city, taken
        )
        for number in range(1, NEW_TASKS + 1)
    )
    # Drawn last and from a separate stream, so that it changes no other people.
    unseen = _draw_people(seeded("biography", seed, "unseen"), UNSEEN_PEOPLE, company_city, taken)
    boundary = min(max(round(people * tuned), 1), people - 1)
    return World(tuned=old[:boundary], held_out=old[boundary:], new=new, unseen=unseen)


def _draw_people(
    stream: random.Random, count: int, company_city: dict[str, str], taken: set[str]
) -> tuple[Person, ...]:
    people: list[Person] = []
    while len(people) < count:
        name = f"{pick(stream, FIRST_NAMES)} {pick(stream, MIDDLE_NAMES)} {pick(stream, SURNAMES)}"
        if name in taken:
            continue
        taken.add(name)
        company = pick(stream, COMPANIES)
        facts = {
            "birthday": f"{pick(stream, DAYS)} {pick(stream, MONTHS)} {pick(stream, YEARS)}",
            "birth city": pick(stream, CITIES),
            "university": pick(stream, UNIVERSITIES),
            "major": pick(stream, MAJORS),
            "company": company,
            "company city": company_city[company],
        }
        people.append(Person(name, facts))
    return tuple(people)


T = TypeVar("T")


def seeded(*parts: object) -> random.Random:
    """Return a stream of draws that is a pure function of the texts of `parts`."""
    return random.Random("/".join(str(part) for part in parts))


def pick(stream: random.Random, items: Sequence[T]) -> T:
    """Draw one of `items`."""
    return items[int(stream.random() * len(items))]


def shuffled(stream: random.Random, items: Sequence[T]) -> list[T]:
    """Return `items` in random order (Fisher-Yates)."""
    order = list(items)
    for last in range(len(order) - 1, 0, -1):
        other = int(stream.random() * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order
