from hypothesis import given
from hypothesis import strategies as st

from sf_tui.tasks.biography.world import pick, seeded, shuffled


def test_a_stream_gives_the_numbers_that_it_has_always_given() -> None:
    # Written down once: a change here changes every world that was ever made from a seed.
    stream = seeded("biography", 0, "people")

    assert [pick(stream, range(1000)) for _ in range(6)] == [535, 888, 233, 436, 11, 524]
    assert shuffled(seeded("order", 1), range(6)) == [3, 1, 2, 4, 0, 5]


@given(st.lists(st.integers()), st.integers())
def test_shuffling_keeps_every_item(items: list[int], seed: int) -> None:
    assert sorted(shuffled(seeded(seed), items)) == sorted(items)


def test_every_item_is_picked_about_equally_often() -> None:
    stream = seeded("even")
    counts = [0] * 7
    for _ in range(7000):
        counts[pick(stream, range(7))] += 1

    assert min(counts) > 850
    assert max(counts) < 1150


def test_streams_of_different_parts_differ() -> None:
    draws = {seeded("biography", 1, *parts).random() for parts in [(), (2,), (2, 3), (23,)]}

    assert len(draws) == 4
