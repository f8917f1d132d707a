"""How many held-out examples a probe takes, and which: from token counts, never from the clock.

The same on every machine and after every resume. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sf_tui.engine.batches import derive_seed
from sf_tui.profile import ProbeSettings
from sf_tui.tasks.encoding import Encoded

# A trained token costs a forward pass and about two forward passes' worth of backward; a probed
# one the forward pass alone.
PROBED_TOKENS_A_TRAINED_ONE = 3


@dataclass(frozen=True)
class HeldOutRows:
    """One task's held-out split; a probe is spread evenly over the groups of its rows."""

    rows: Sequence[Encoded]
    weight: int = 1
    """Its share of a probe's tokens, beside the other tasks'."""

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(row.input_ids) for row in self.rows]


def plan_probes(
    settings: ProbeSettings,
    held_out: Mapping[str, HeldOutRows],
    *,
    tokens_a_step: float,
    fixed_cost: float,
    window: int,
    steps: int,
    seed: int,
) -> dict[str, list[int]]:
    """Choose the examples that every probe of a stage takes.

    One choice serves inside and outside the danger window, so that the curve compares like with
    like; it keeps within both budgets.

    Args:
        settings: intervals, budgets, or a number of examples outright.
        held_out: the tasks that are probed, in profile order.
        tokens_a_step: trained tokens of an optimizer step, on average.
        fixed_cost: what a probe costs beside its examples (drift, bookkeeping), in trained tokens.
        window: length of the stage's danger window; 0 without one.
        steps: length of the stage.
        seed: decides which examples.

    Returns:
        For each task, ascending indices into its held-out split; at least one.
    """
    budgets = []
    if window:
        budgets.append(settings.budget_in_window * settings.every_in_window * tokens_a_step)
    if not window or steps > window:
        budgets.append(settings.budget * settings.every * tokens_a_step)
    tokens = max(min(budgets) - fixed_cost, 0.0) * PROBED_TOKENS_A_TRAINED_ONE
    chosen: dict[str, list[int]] = {}
    # The smallest split first: what it can't use is left to the others.
    waiting = sorted(held_out, key=lambda task: sum(held_out[task].lengths))
    for place, task in enumerate(waiting):
        size = held_out[task]
        groups = [row.group for row in size.rows]
        order = spread_evenly(groups, derive_seed(seed, task, "probe"))
        # By the examples' own lengths: a short group's mean says nothing of a long one's.
        costs = np.cumsum([size.lengths[at] for at in order])
        share = size.weight / sum(held_out[name].weight for name in waiting[place:])
        affordable = int(np.searchsorted(costs, tokens * share, side="right"))
        count = min(settings.examples or max(affordable, 1), len(order))
        chosen[task] = sorted(order[:count])
        tokens = max(tokens - float(costs[count - 1]), 0.0)
    return {task: chosen[task] for task in held_out}


def spread_evenly(groups: Sequence[str], seed: int) -> list[int]:
    """Order examples so that any first few hold as many of each group as of any other.

    Returns:
        Indices of all examples.
    """
    random = np.random.default_rng(seed)
    by_group: dict[str, list[int]] = {}
    for at in random.permutation(len(groups)):
        by_group.setdefault(groups[at], []).append(int(at))
    ranked = [
        (place, turn, at)
        for turn, group in enumerate(sorted(by_group))
        for place, at in enumerate(by_group[group])
    ]
    return [at for _, _, at in sorted(ranked)]
