"""How many examples a probe takes follows from its budget in tokens, and they are spread evenly."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_tui.engine.probe_plan import (
    FEWEST_PROBES_IN_WINDOW,
    NEW_TASK_FLOOR,
    OLD_TASK_FLOOR,
    HeldOutRows,
    ProbePlan,
    plan_probes,
)
from sf_tui.engine.probing import PROBED_TOKENS_A_TRAINED_ONE
from sf_tui.profile import ProbeSettings
from sf_tui.tasks.encoding import Encoded

SPLIT = st.lists(
    st.tuples(st.integers(1, 400), st.sampled_from(["", "a", "b", "c"])), min_size=1, max_size=200
)


def plan(held_out: dict[str, HeldOutRows], **options: Any) -> dict[str, list[int]]:
    return whole_plan(held_out, **options).examples


def whole_plan(held_out: dict[str, HeldOutRows], **options: Any) -> ProbePlan:
    given = {
        "tokens_a_step": 1000.0,
        "fixed_cost": 0.0,
        "window": 150,
        "steps": 300,
        "seed": 0,
    } | options
    chosen = given.pop("settings", ProbeSettings())
    return plan_probes(chosen, held_out, **given)


def rows(lengths: list[int], groups: list[str]) -> HeldOutRows:
    pairs = zip(lengths, groups, strict=True)
    return HeldOutRows([Encoded([0] * length, [], group) for length, group in pairs])


def size(count: int, length: int = 10, groups: list[str] | None = None) -> HeldOutRows:
    return rows([length] * count, groups or [""] * count)


@settings(deadline=None, max_examples=100)
@given(
    splits=st.lists(SPLIT, min_size=1, max_size=3),
    tokens_a_step=st.floats(10, 20_000),
    window=st.sampled_from([0, 50, 150]),
    steps=st.integers(1, 300),
    budget=st.floats(0, 0.2),
    budget_in_window=st.floats(0, 0.2),
)
def test_probe_keeps_within_its_budget(
    splits: list[list[tuple[int, str]]],
    tokens_a_step: float,
    window: int,
    steps: int,
    budget: float,
    budget_in_window: float,
) -> None:
    held_out = {
        str(number): rows([one for one, _ in split], [one for _, one in split])
        for number, split in enumerate(splits)
    }
    wanted = ProbeSettings(budget=budget, budget_in_window=budget_in_window)
    window = min(window, steps)
    chosen = plan(
        held_out,
        settings=wanted,
        tokens_a_step=tokens_a_step,
        window=window,
        steps=steps,
        fixed_cost=40.0,
    )
    assert list(chosen) == list(held_out)
    for task, places in chosen.items():
        assert places == sorted(set(places))
        assert len(places) >= 1
        assert places[-1] < len(held_out[task].lengths)
    allowance = []
    if window:
        allowance.append(budget_in_window * wanted.every_in_window * tokens_a_step)
    if not window or steps > window:
        allowance.append(budget * wanted.every * tokens_a_step)
    # A task's only example is taken whatever it costs.
    alone = sum(
        held_out[task].lengths[places[0]] for task, places in chosen.items() if len(places) == 1
    )
    probed = sum(held_out[task].lengths[at] for task, places in chosen.items() for at in places)
    cost = (probed - alone) / PROBED_TOKENS_A_TRAINED_ONE
    assert cost <= max(min(allowance) - 40.0, 0.0) + 1e-6


def test_larger_budget_takes_more_and_the_whole_split_at_most() -> None:
    counts = [
        len(plan({"old": size(300)}, settings=ProbeSettings(budget_in_window=share))["old"])
        for share in (0.0, 0.02, 0.1, 1.0)
    ]
    # 0.02 · 5 steps · 1000 tokens · 3, in examples of 10 tokens.
    assert counts == [1, 30, 150, 225]
    everything = ProbeSettings(budget=1.0, budget_in_window=1.0)
    assert len(plan({"old": size(300)}, settings=everything)["old"]) == 300


def test_smaller_of_the_two_budgets_decides() -> None:
    wanted = ProbeSettings(budget=0.01, every=10, budget_in_window=0.5, every_in_window=5)
    assert len(plan({"old": size(300)}, settings=wanted)["old"]) == 30
    within = plan({"old": size(300)}, settings=wanted, window=150, steps=150)["old"]
    assert len(within) == 300


def test_what_a_small_split_leaves_goes_to_the_others() -> None:
    chosen = plan({"big": size(1000), "small": size(10)})
    assert len(chosen["small"]) == 10
    assert len(chosen["big"]) == 140


def test_number_of_examples_can_be_said_outright() -> None:
    chosen = plan({"old": size(300), "new": size(7)}, settings=ProbeSettings(examples=20))
    assert (len(chosen["old"]), len(chosen["new"])) == (20, 7)


@settings(deadline=None, max_examples=100)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    examples=st.integers(1, 100),
    seed=st.integers(0, 5),
)
def test_examples_are_spread_evenly_over_groups(
    counts: list[int], examples: int, seed: int
) -> None:
    groups = [f"group {at}" for at, count in enumerate(counts) for _ in range(count)]
    wanted = ProbeSettings(examples=examples)
    split = size(len(groups), groups=groups)
    chosen = plan({"old": split}, settings=wanted, seed=seed)["old"]
    taken = Counter(groups[at] for at in chosen)
    most = max(taken.values())
    for at, count in enumerate(counts):
        assert taken[f"group {at}"] >= min(count, most - 1)


def test_choice_is_the_same_every_time_and_another_for_another_seed() -> None:
    split = size(200)
    assert plan({"old": split}) == plan({"old": split})
    assert plan({"old": split}) != plan({"old": split}, seed=1)
    assert plan({"old": split})["old"] != plan({"new": split})["new"]


def test_long_examples_of_a_small_group_do_not_break_the_budget() -> None:
    lengths = [10] * 1000 + [1000] * 50
    groups = ["short"] * 1000 + ["long"] * 50
    chosen = plan({"old": rows(lengths, groups)}, tokens_a_step=20_000.0)["old"]
    assert sum(lengths[at] for at in chosen) <= 0.1 * 5 * 20_000 * 3


@pytest.mark.parametrize("fixed_cost", [0.0, 1e9])
def test_every_task_is_probed_whatever_it_costs(fixed_cost: float) -> None:
    chosen = plan({"a": size(9, 5000), "b": size(9, 5000)}, fixed_cost=fixed_cost)
    assert [len(places) for places in chosen.values()] == [1, 1]


def old(count: int, length: int = 10) -> HeldOutRows:
    return HeldOutRows(size(count, length).rows, weight=3, floor=OLD_TASK_FLOOR)


def new(count: int, length: int = 10) -> HeldOutRows:
    return HeldOutRows(size(count, length).rows, floor=NEW_TASK_FLOOR)


def test_five_old_tasks_are_probed_on_fifty_examples_each_and_less_often() -> None:
    held_out = {f"old-{number}": old(600, 12) for number in range(5)} | {"new": new(40, 12)}
    found = whole_plan(held_out, tokens_a_step=3000.0)
    for task, places in found.examples.items():
        assert len(places) >= (NEW_TASK_FLOOR if task == "new" else OLD_TASK_FLOOR)
    assert (found.every_in_window, found.every) == (5, 25)
    cheaper = whole_plan(held_out, tokens_a_step=600.0, steps=1000)
    # 270 rows of 12 tokens cost 1,080 trained ones: 10 % of 18 steps of 600, or 3 % of 60.
    assert cheaper.every_in_window == 20
    assert cheaper.every == 75
    assert min(len(places) for places in cheaper.examples.values()) >= NEW_TASK_FLOOR
    assert cheaper.share_in_window is not None
    assert cheaper.share_in_window <= 0.1
    assert cheaper.share <= 0.03


@settings(deadline=None, max_examples=100)
@given(
    counts=st.lists(st.integers(1, 400), min_size=1, max_size=8),
    length=st.integers(1, 300),
    tokens_a_step=st.floats(50, 20_000),
    fixed_cost=st.floats(0, 500),
    window=st.sampled_from([0, 8, 60, 150]),
    steps=st.integers(1, 3000),
    budget=st.floats(0, 0.2),
)
def test_old_task_has_its_floor_whatever_the_budget(
    counts: list[int],
    length: int,
    tokens_a_step: float,
    fixed_cost: float,
    window: int,
    steps: int,
    budget: float,
) -> None:
    window = min(window, steps)
    held_out = {str(at): old(count, length) for at, count in enumerate(counts)}
    wanted = ProbeSettings(budget=budget)
    found = whole_plan(
        held_out,
        settings=wanted,
        tokens_a_step=tokens_a_step,
        fixed_cost=fixed_cost,
        window=window,
        steps=steps,
    )
    for task, count in enumerate(counts):
        assert len(found.examples[str(task)]) >= min(count, OLD_TASK_FLOOR)
    for every, configured, span, fewest in (
        (found.every_in_window, wanted.every_in_window, window, FEWEST_PROBES_IN_WINDOW),
        (found.every, wanted.every, steps - window, 4),
    ):
        assert every % configured == 0
        assert every == configured or every <= span // fewest
    # The budget gives way only where probes can't come less often.
    if window and found.share_in_window is not None:
        longest = max(window // FEWEST_PROBES_IN_WINDOW, wanted.every_in_window)
        further = found.every_in_window + wanted.every_in_window
        assert found.share_in_window <= wanted.budget_in_window + 1e-9 or further > longest


def test_number_of_examples_said_outright_is_kept_and_so_are_the_intervals() -> None:
    found = whole_plan({"old": old(600)}, settings=ProbeSettings(examples=7), tokens_a_step=20.0)
    assert len(found.examples["old"]) == 7
    assert (found.every, found.every_in_window) == (25, 5)


def test_collapse_is_still_seen_where_no_interval_pays_for_the_floor() -> None:
    found = whole_plan({"old": old(600, 100)}, tokens_a_step=100.0, window=60, steps=60)
    assert len(found.examples["old"]) == OLD_TASK_FLOOR
    assert found.every_in_window == 10
    assert found.share_in_window is not None
    assert found.share_in_window == pytest.approx(50 * 100 / 3 / (10 * 100.0))
