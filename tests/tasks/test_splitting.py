from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_tui.errors import DataError
from sf_tui.tasks.task import Example, Message, prompt_key
from sf_tui.tasks.user_data import held_out_count, split_examples


def rows(count: int) -> list[Example]:
    return [Example(prompt=f"question {n}", completion=f"answer {n}") for n in range(count)]


@pytest.mark.parametrize(
    ("count", "held_out", "expected"),
    [
        (2, None, 1),
        (9, None, 1),
        (100, None, 10),
        (5120, None, 512),
        (100_000, None, 512),
        (10, 0.25, 2),
        (10, 0.01, 1),
        (10, 0.99, 9),
        (10, 3, 3),
        (10, 9, 9),
    ],
)
def test_the_number_of_held_out_rows(count: int, held_out: float | None, expected: int) -> None:
    assert held_out_count(count, held_out, "x") == expected


@pytest.mark.parametrize(
    ("count", "held_out"), [(10, 0), (10, 10), (10, -1), (10, 0.0), (10, 1.0), (10, 1.5), (1, None)]
)
def test_a_split_with_an_empty_side_is_refused(count: int, held_out: float | None) -> None:
    with pytest.raises(DataError, match="x: ") as caught:
        held_out_count(count, held_out, "x")
    assert caught.value.hint


def test_the_seed_decides() -> None:
    examples = rows(200)
    splits = {split_examples(examples, 20, seed).held_out for seed in range(5)}
    assert len(splits) == 5
    assert split_examples(examples, 20, 3) == split_examples(examples, 20, 3)


def test_rows_added_later_change_the_side_of_few_others() -> None:
    before = set(split_examples(rows(1000), 0.1, 0).held_out)
    after = set(split_examples(rows(1050), 0.1, 0).held_out)
    assert len(before & after) >= 85


def test_rows_of_one_prompt_are_not_to_be_split() -> None:
    same = [Example(prompt="p", completion=str(n)) for n in range(4)]
    with pytest.raises(DataError, match="all 4 rows have one prompt in common"):
        split_examples(same, None, 0, "x")


def test_texts_without_a_prompt_are_split_by_themselves() -> None:
    texts = [Example(completion=f"text {n}") for n in range(10)]
    assert len(split_examples(texts, 3, 0).held_out) == 3


def test_a_longer_conversation_has_the_prompt_of_its_beginning() -> None:
    short = (Message("user", "u"), Message("assistant", "a"))
    long = (*short, Message("user", "v"), Message("assistant", "b"))
    assert prompt_key(Example(messages=short)) == prompt_key(Example(messages=long))


def test_groups_larger_than_wanted_leave_the_smallest_held_out() -> None:
    examples = [Example(prompt=str(n), completion="a", group=str(n % 2)) for n in range(9)]
    split = split_examples(examples, 1, 0, by_group=True)
    assert split.held_out == (1, 3, 5, 7)
    assert split.units == 2


examples_ = st.lists(
    st.builds(
        Example,
        prompt=st.sampled_from([f"p{n}" for n in range(12)]),
        completion=st.sampled_from("abc"),
        group=st.sampled_from([f"g{n}" for n in range(8)]),
    ),
    min_size=2,
    max_size=40,
)


@given(
    examples_, st.one_of(st.none(), st.floats(0.01, 0.99), st.just(1)), st.integers(), st.booleans()
)
def test_no_row_is_lost_doubled_or_beside_its_like(
    examples: list[Example], held_out: float | None, seed: int, by_group: bool
) -> None:
    try:
        split = split_examples(examples, held_out, seed, by_group=by_group)
    except DataError:
        # Then all hang together: there is a chain of common prompts and groups through them.
        assert len({e.prompt for e in examples}) == 1 or by_group
        return
    assert sorted(split.train + split.held_out) == list(range(len(examples)))
    assert split.train
    assert split.held_out
    train = [examples[index] for index in split.train]
    scored = [examples[index] for index in split.held_out]
    assert not {e.prompt for e in train} & {e.prompt for e in scored}
    if by_group:
        assert not {e.group for e in train} & {e.group for e in scored}


@given(examples_, st.integers(0, 5), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    examples: list[Example], seed: int, by_group: bool, chance: random.Random
) -> None:
    shuffled = examples.copy()
    chance.shuffle(shuffled)

    def sides(given: list[Example]) -> list[str]:
        split = split_examples(given, 0.3, seed, by_group=by_group)
        return sorted(repr(given[index]) for index in split.held_out)

    try:
        expected = sides(examples)
    except DataError:
        with pytest.raises(DataError):
            sides(shuffled)
        return
    assert sides(shuffled) == expected
