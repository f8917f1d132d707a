"""How many held-out examples each probe of a stage takes, which, and how often it probes.

A drop measured on few examples is noise, so an old task has a floor of examples. Where the budget
doesn't pay for it, probes become fewer, not smaller. The plan follows from token counts and the
profile, never from the clock, so it is the same on every machine and after every resume.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.probing import PROBED_TOKENS_A_TRAINED_ONE, spread_evenly
from sf_tui.profile import ProbeSettings
from sf_tui.tasks.encoding import Encoded

OLD_TASK_FLOOR = 50
"""Least number of examples of an old task in a probe: a loss of 34 points from 1.00 is then past an
alert at 20 points; with 14 examples it takes 57 points."""
NEW_TASK_FLOOR = 20
"""The same for the stage's own task, whose curve is steeper and decides less."""

# An untreated collapse takes 20 to 100 steps of a window of 150. With six probes in it, the first
# sees at most a sixth of the window unwatched; a run as long as its window still has a curve.
FEWEST_PROBES_IN_WINDOW = 6
FEWEST_PROBES_OUTSIDE = 4


# Not the run's seed: runs on the same data must use the same examples, so that their curves are
# comparable across seeds and strategies.
PROBE_SEED = 0


def probed_places(task: str, rows: Sequence[Encoded], count: int) -> list[int]:
    """Return the places of the examples that probes of a given size take of a task, ascending."""
    order = spread_evenly([row.group for row in rows], derive_seed(PROBE_SEED, task, "probe"))
    return sorted(order[:count])


@dataclass(frozen=True)
class HeldOutRows:
    """One task's held-out split; a probe samples evenly from the groups of its rows."""

    rows: Sequence[Encoded]
    weight: int = 1
    """Weight of its share of a probe's tokens, relative to other tasks."""
    floor: int = 0
    """Least number of examples in a probe, if the split has them."""

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(row.input_ids) for row in self.rows]


@dataclass(frozen=True)
class ProbePlan:
    """The probes of one stage.

    Attributes:
        examples: ascending indices into each task's held-out split, at least one per task.
        every: steps between probes outside a danger window, a multiple of the profile's.
        every_in_window: the same inside one.
        share: estimated share of the compute outside, relative to the training alone.
        share_in_window: the same inside; None without a window.
    """

    examples: dict[str, list[int]]
    every: int
    every_in_window: int
    share: float
    share_in_window: float | None


def plan_probes(
    settings: ProbeSettings,
    held_out: Mapping[str, HeldOutRows],
    *,
    tokens_a_step: float,
    fixed_cost: float,
    window: int,
    steps: int,
    seed: int,
) -> ProbePlan:
    """Choose the examples of every probe of a stage, and the intervals between probes.

    The same examples are used inside and outside the danger window, so that all points of a curve
    are comparable; they fit both budgets. If the floors don't, the intervals grow to the smallest
    multiple that pays for them, but not so far that a collapse is missed: the budget then gives
    way. A number of examples set by the user decides alone.

    Args:
        settings: intervals, budgets, or a fixed number of examples.
        held_out: the tasks to probe, in profile order.
        tokens_a_step: mean number of trained tokens per optimizer step.
        fixed_cost: cost of a probe besides its examples (drift, bookkeeping), in trained tokens.
        window: length of the stage's danger window in steps; 0 without one.
        steps: length of the stage in steps.
        seed: seed of the selection.
    """
    splits = {task: _Split.order(task, size, seed) for task, size in held_out.items()}
    floors = {task: min(size.floor, len(size.rows)) for task, size in held_out.items()}
    least = sum(splits[task].cost(count) for task, count in floors.items())
    inside = _Interval(
        settings.every_in_window,
        settings.budget_in_window * tokens_a_step,
        window // FEWEST_PROBES_IN_WINDOW,
    )
    outside = _Interval(
        settings.every,
        settings.budget * tokens_a_step,
        (steps - window) // FEWEST_PROBES_OUTSIDE,
    )
    used = [inside] if window else []
    if not window or steps > window:
        used.append(outside)

    def affordable() -> float:
        trained = min(interval.budget for interval in used) - fixed_cost
        return max(trained, 0.0) * PROBED_TOKENS_A_TRAINED_ONE

    if settings.examples is not None:
        chosen = {task: splits[task].first(settings.examples) for task in held_out}
    else:
        paid = affordable()
        chosen = _allocate(held_out, splits, dict.fromkeys(held_out, 0), paid)
        short = any(len(chosen[task]) < count for task, count in floors.items())
        # A task's only example is taken even if it is not paid for.
        if short or least > paid:
            wanted = fixed_cost + least / PROBED_TOKENS_A_TRAINED_ONE
            for interval in used:
                interval.grow_to(wanted)
            chosen = _allocate(held_out, splits, floors, affordable())
    probed = sum(held_out[task].lengths[at] for task, places in chosen.items() for at in places)
    cost = fixed_cost + probed / PROBED_TOKENS_A_TRAINED_ONE

    def share(interval: _Interval) -> float:
        return cost / (interval.steps * tokens_a_step) if tokens_a_step else math.inf

    return ProbePlan(
        {task: sorted(places) for task, places in chosen.items()},
        outside.steps,
        inside.steps,
        share(outside),
        share(inside) if window else None,
    )


@dataclass
class _Interval:
    """Steps from probe to probe.

    Attributes:
        steps: the profile's at first, then a multiple of it.
        budget_a_step: trained tokens per step that probes may cost.
        longest: bound on its growth, in steps.
    """

    steps: int
    budget_a_step: float
    longest: int

    @property
    def budget(self) -> float:
        """Trained tokens that one probe may cost."""
        return self.budget_a_step * self.steps

    def grow_to(self, cost: float) -> None:
        """Take the smallest multiple whose budget covers a cost, within the bound."""
        most = max(self.longest // self.steps, 1)
        times = cost / self.budget if self.budget > 0 else math.inf
        self.steps *= most if times >= most else max(math.ceil(times), 1)


@dataclass(frozen=True)
class _Split:
    """A held-out split in the order in which probes take its rows."""

    places: list[int]
    costs: np.ndarray
    """(rows,) tokens of the rows up to each place."""

    @classmethod
    def order(cls, task: str, size: HeldOutRows, seed: int) -> _Split:
        groups = [row.group for row in size.rows]
        places = spread_evenly(groups, derive_seed(seed, task, "probe"))
        # The actual lengths: they may differ between groups.
        return cls(places, np.cumsum([size.lengths[at] for at in places]))

    def first(self, count: int) -> list[int]:
        return self.places[:count]

    def cost(self, count: int) -> float:
        return float(self.costs[count - 1]) if count else 0.0

    def count_within(self, tokens: float) -> int:
        return int(np.searchsorted(self.costs, tokens, side="right"))


def _allocate(
    held_out: Mapping[str, HeldOutRows],
    splits: Mapping[str, _Split],
    floors: Mapping[str, int],
    tokens: float,
) -> dict[str, list[int]]:
    """Share a probe's tokens among the tasks by weight, on top of each task's floor."""
    left = max(tokens - sum(splits[task].cost(count) for task, count in floors.items()), 0.0)
    chosen: dict[str, list[int]] = {}
    # Smallest split first: its unused budget goes to the others.
    waiting = sorted(held_out, key=lambda task: sum(held_out[task].lengths))
    for place, task in enumerate(waiting):
        split, base = splits[task], splits[task].cost(floors[task])
        share = held_out[task].weight / sum(held_out[name].weight for name in waiting[place:])
        count = min(max(split.count_within(base + left * share), 1), len(split.places))
        chosen[task] = split.first(count)
        left = max(left - (split.cost(count) - base), 0.0)
    return {task: chosen[task] for task in held_out}
