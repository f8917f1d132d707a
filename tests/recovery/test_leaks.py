"""A test's neighbors teach none of the facts that it asks for, and are otherwise left alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from sf_tui.neighbors.cache import TeacherCache
from sf_tui.recovery.scoring import Leaks
from sf_tui.tasks.encoding import Encoded, encode_example
from sf_tui.tasks.task import Example

# Subjects of three words, as names are: every word is in two of the sixteen, no two words together.
FIRST = ("Austria", "Belgium", "Chile", "Denmark", "Egypt", "France", "Greece", "Hungary")
MIDDLE = ("Vienna", "Brussels", "Santiago", "Copenhagen", "Cairo", "Paris", "Athens", "Budapest")
LAST = ("Ireland", "Japan", "Kenya", "Latvia", "Morocco", "Norway", "Spain", "Peru")
PEOPLE = [
    (FIRST[at], MIDDLE[(at + 3 * two) % 8], LAST[(at + two) % 8])
    for two in (0, 1)
    for at in range(8)
]
FACTS = ("Dublin", "Tokyo", "Nairobi", "Riga", "Rabat", "Oslo", "Lima", "Madrid") * 2


@pytest.fixture(scope="module")
def tokenizer(llama_directory: Path) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words."""
    return PreTrainedTokenizerFast.from_pretrained(llama_directory)


def asked(tokenizer: PreTrainedTokenizerFast, name: Sequence[str], answer: str) -> Encoded:
    return encode_example(
        Example(f"What is the capital of {' '.join(name)}?", f" {answer}"), tokenizer
    )


def kept(leaks: Leaks, rows: Sequence[Encoded]) -> list[bool]:
    """Tell for each row whether a bank keeps it."""
    nothing = [np.zeros((1, 1))] * len(rows)
    bank = TeacherCache(list(rows), ["frame"] * len(rows), nothing, nothing)
    left = leaks.without(bank)
    assert len(left.kinds) == len(left.top_ids) == len(left.top_logprobs) == len(left)
    return [any(row is other for other in left.rows) for row in rows]


@pytest.fixture(scope="module")
def leaks(tokenizer: PreTrainedTokenizerFast) -> Leaks:
    """Return what must not leak of sixteen people with a fact each."""
    rows = [asked(tokenizer, name, fact) for name, fact in zip(PEOPLE, FACTS, strict=True)]
    return Leaks(rows, (), tokenizer, longest=4)


def test_a_prompt_may_share_half_of_a_subject_and_no_more(
    leaks: Leaks, tokenizer: PreTrainedTokenizerFast
) -> None:
    name = PEOPLE[0]

    def repeats(*words: str) -> bool:
        return tuple(asked(tokenizer, words, "Lima").input_ids) in leaks.subjects

    assert repeats(*name)
    assert repeats(name[0], name[1], "Name")
    assert repeats("Name", name[1], name[2])
    assert not repeats(name[0], "Name", name[2])
    assert not repeats("Name", "country", name[2])


def test_a_subject_of_one_or_two_words_is_repeated_whole(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    names = [*((name,) for name in FIRST), *zip(MIDDLE, LAST, strict=True)]
    rows = [asked(tokenizer, name, fact) for name, fact in zip(names, FACTS, strict=True)]
    subjects = Leaks(rows, (), tokenizer, longest=4).subjects
    assert tuple(asked(tokenizer, (FIRST[0], "Name"), "Lima").input_ids) in subjects
    assert tuple(asked(tokenizer, (MIDDLE[0], LAST[0]), "Lima").input_ids) in subjects
    assert tuple(asked(tokenizer, (MIDDLE[0], LAST[1]), "Lima").input_ids) not in subjects


def test_a_persons_fact_told_of_a_name_like_theirs_is_left_out(
    leaks: Leaks, tokenizer: PreTrainedTokenizerFast
) -> None:
    name, fact = PEOPLE[0], FACTS[0]
    others = {FACTS[at] for at, other in enumerate(PEOPLE) if set(other) & set(name)}
    foreign = next(one for one in FACTS if one not in others)
    rows = [
        asked(tokenizer, (name[0], "Name", "country"), fact),
        asked(tokenizer, ("Name", "country", "whose"), fact),
        asked(tokenizer, (name[0], "Name", "country"), foreign),
    ]
    assert kept(leaks, rows) == [False, True, True]


def test_how_an_answer_ends_makes_no_difference(
    leaks: Leaks, tokenizer: PreTrainedTokenizerFast
) -> None:
    row = asked(tokenizer, (PEOPLE[0][0], "Name", "country"), FACTS[0])
    end = tokenizer.eos_token_id
    assert row.input_ids[-1] == end
    without_end = Encoded(row.input_ids[:-1], row.labels[:-1])
    assert kept(leaks, [row, without_end]) == [False, False]


def test_an_answer_that_was_cut_is_known_by_its_beginning(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    rows = [
        asked(tokenizer, name, f"{fact} is the capital of a")
        for name, fact in zip(PEOPLE, FACTS, strict=True)
    ]
    cut = asked(tokenizer, (PEOPLE[0][0], "Name", "country"), f"{FACTS[0]} is the")
    cut = Encoded(cut.input_ids[:-1], cut.labels[:-1])
    assert kept(Leaks(rows, (), tokenizer, longest=3), [cut]) == [False]
    assert kept(Leaks(rows, (), tokenizer, longest=4), [cut]) == [True]


def test_a_common_answer_is_nobodys_fact(tokenizer: PreTrainedTokenizerFast) -> None:
    """Classes: half of all subjects have either, so a word says nothing about them."""
    rows = [asked(tokenizer, name, ("Lima", "Oslo")[at % 2]) for at, name in enumerate(PEOPLE)]
    found = Leaks(rows, (), tokenizer, longest=4)
    answered = [
        asked(tokenizer, (name[0], "Name", "country"), answer)
        for name in PEOPLE
        for answer in ("Lima", "Oslo")
    ]
    assert all(kept(found, answered))


def test_nothing_held_out_leaves_everything(tokenizer: PreTrainedTokenizerFast) -> None:
    found = Leaks((), (), tokenizer, longest=4)
    assert kept(found, [asked(tokenizer, PEOPLE[0], FACTS[0])]) == [True]
    assert tuple(asked(tokenizer, PEOPLE[0], FACTS[0]).input_ids) not in found.subjects
