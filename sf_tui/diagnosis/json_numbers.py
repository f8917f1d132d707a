"""Numbers as events carry them: short, and never one that JSON can't hold."""

from __future__ import annotations

import math

from sf_tui.diagnosis.intervals import Estimate


def rounded(value: float | None) -> float | None:
    """Return a value with six decimals, None for none; raise ValueError if it isn't finite."""
    return None if value is None else round(_finite(value), 6)


def rounded_rate(value: float) -> float:
    """Return a learning rate with six significant digits: six decimals would make 1e-7 a 0."""
    return float(f"{_finite(value):.6g}")


def rounded_interval(estimate: Estimate | None) -> list[float] | None:
    """Return the two ends with six decimals, None for none."""
    if estimate is None:
        return None
    return [round(_finite(end), 6) for end in estimate.interval]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} can't be told in an event")
    # A plain float, also for numpy's, and no negative zero.
    return float(value) + 0.0
