"""What probes add to a run's time, from the steps of one run with them and one without.

A leg goes from the end of one step to that of the next, so that it holds what comes between. Every
probe of a stage takes the same examples, so each adds the same; steps differ in length. The cost
is therefore what a probe adds (the median over all legs that hold one) by the mean time from probe
to probe without it. Knows no run.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sf_tui.bench.alternating import median_ratio


@dataclass(frozen=True)
class Schedule:
    """When a run probes."""

    window: int
    every: int
    every_in_window: int

    def holds_probe(self, index: int) -> bool:
        """Tell whether a probe falls into leg `index`, that after step `index` + 1."""
        step = index + 1
        return step % (self.every_in_window if step <= self.window else self.every) == 0


@dataclass(frozen=True)
class ProbeCost:
    """What was found; seconds are medians or means over legs."""

    in_window: float
    """By the run's time in the danger window without probes."""
    outside: float
    probes: int
    seconds_a_probe: float
    seconds_a_step_in_window: float
    seconds_a_step_outside: float
    legs_without_probe: float
    """Time of the legs that hold no probe by those of the other run: 1 when all of the cost is
    in the others."""


def probe_cost(schedule: Schedule, probed: Sequence[float], bare: Sequence[float]) -> ProbeCost:
    """Compare the legs of a run with those of the same run without probes.

    Args:
        schedule: when the one run probes.
        probed: seconds of each leg, the first one from the end of step 1 to that of step 2.
        bare: the same of the other run.
    """
    holding = [at for at in range(len(probed)) if schedule.holds_probe(at)]
    others = [at for at in range(len(probed)) if not schedule.holds_probe(at)]
    added = statistics.median(probed[at] - bare[at] for at in holding)
    inside = statistics.mean(bare[: schedule.window])
    outside = statistics.mean(bare[schedule.window :])
    return ProbeCost(
        added / (inside * schedule.every_in_window),
        added / (outside * schedule.every),
        len(holding),
        added,
        inside,
        outside,
        median_ratio([probed[at] for at in others], [bare[at] for at in others]) if others else 1.0,
    )
