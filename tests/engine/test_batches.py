"""The order of the data is a pure function that leaves nothing out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_tui.engine.batches import BatchOrder, FixedSource, collate, derive_seed
from sf_tui.tasks.encoding import Encoded
from support.tiny_models import make_rows

quick = settings(deadline=None, max_examples=60)


def order_of(
    count: int, batch_size: int, *, seed: int = 0, stage: str = "new", grouped: bool = True
) -> BatchOrder:
    source = FixedSource(make_rows(count, longest=60))
    return BatchOrder(source, batch_size, seed, stage, length_grouped=grouped)


@quick
@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    seed=st.integers(-5, 2**40),
    grouped=st.booleans(),
)
def test_every_example_comes_once_an_epoch(
    count: int, batch_size: int, seed: int, grouped: bool
) -> None:
    order = order_of(count, batch_size, seed=seed, grouped=grouped)
    steps = -(-3 * count // batch_size)
    seen: dict[int, list[int]] = {}
    for step in range(1, steps + 1):
        entries = order.entries(step)
        assert len(entries) == batch_size
        for index, epoch in entries:
            seen.setdefault(epoch, []).append(index)
    for epoch in range(3):
        assert sorted(seen[epoch]) == list(range(count))


@quick
@given(steps=st.lists(st.integers(1, 500), min_size=1, max_size=12), grouped=st.booleans())
def test_batch_depends_on_nothing_but_seed_stage_and_step(steps: list[int], grouped: bool) -> None:
    one = order_of(37, 8, grouped=grouped)
    forth = {step: one.entries(step) for step in steps}
    for step in reversed(steps):
        assert order_of(37, 8, grouped=grouped).entries(step) == forth[step]
        assert one.entries(step) == forth[step]


def test_seed_stage_and_epoch_each_change_the_order() -> None:
    orders = [
        order_of(40, 40).entries(1),
        order_of(40, 40, seed=1).entries(1),
        order_of(40, 40, stage="old").entries(1),
        order_of(40, 40).entries(2),
    ]
    assert len({tuple(index for index, _ in entries) for entries in orders}) == 4


def test_like_lengths_stand_together_in_a_random_order_of_batches() -> None:
    lengths = [len(row.input_ids) for row in make_rows(400, longest=60)]

    def padding(order: BatchOrder) -> int:
        waste = 0
        for step in range(1, 51):
            found = [lengths[index] for index, _ in order.entries(step)]
            waste += sum(max(found) - length for length in found)
        return waste

    grouped, plain = order_of(400, 8), order_of(400, 8, grouped=False)
    assert padding(grouped) < 0.1 * padding(plain)
    means = [np.mean([lengths[i] for i, _ in grouped.entries(s)]) for s in range(1, 51)]
    assert np.corrcoef(means, range(50))[0, 1] < 0.5


def test_seed_parts_are_told_apart() -> None:
    parts = [
        (seed, stage, what, step)
        for seed in (0, 1, -1)
        for stage in ("new", "new-2")
        for what in ("order", "step")
        for step in (0, 1, 2)
    ]
    seeds = {derive_seed(*part) for part in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(7, "new", "step", 3) == derive_seed(7, "new", "step", 3)


def test_rows_are_padded_on_the_right_and_padding_carries_no_loss() -> None:
    batch = collate([Encoded([5, 6, 7], [-100, 6, 7]), Encoded([8, 9], [-100, 9])], pad_id=3)
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 9, 3]]
    assert batch.labels.tolist() == [[-100, 6, 7], [-100, 9, -100]]
    assert (batch.tokens, batch.answer_tokens) == (5, 3)


def test_label_without_a_token_before_it_is_not_counted() -> None:
    assert collate([Encoded([5, 6], [5, 6])], pad_id=0).answer_tokens == 1


@pytest.mark.parametrize("count", [1, 2])
def test_batch_larger_than_the_data_takes_it_several_times(count: int) -> None:
    entries = order_of(count, 5).entries(1)
    assert [epoch for _, epoch in entries] == [at // count for at in range(5)]


def test_length_grouping_holds_in_every_epoch() -> None:
    random = np.random.default_rng(0)
    lengths = [int(length) for length in random.integers(10, 200, size=203)]
    source = FixedSource([Encoded([1] * length, [1] * length) for length in lengths])
    order = BatchOrder(source, 8, seed=0, stage="new", length_grouped=True)
    padded = []
    for epoch in range(3):
        steps = range(epoch * 203 // 8 + 2, (epoch + 1) * 203 // 8)
        rows = [[lengths[index] for index, _ in order.entries(step)] for step in steps]
        padded.append(sum(max(row) * len(row) for row in rows) / sum(map(sum, rows)))
    # Batches drawn without regard to length pad about three fifths more than they hold.
    assert max(padded) < 1.25, padded
