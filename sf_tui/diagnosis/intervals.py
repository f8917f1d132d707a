"""A measured value with its 95 % interval: how it is computed and how it is written as JSON.

Knows nothing of what is measured. The score interval needs no resampling; `bootstrap.py` resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)

# Sums of graded scores carry rounding errors of about 1e-16; a real difference between two
# accuracies on n examples is at least a small part of 1 / n.
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Upper end minus lower end."""
        return self.high - self.low

    @property
    def interval(self) -> tuple[float, float]:
        """The two ends."""
        return self.low, self.high

    def includes(self, value: float) -> bool:
        """Tell whether a value is in the interval, ends included."""
        return self.low - TOLERANCE <= value <= self.high + TOLERANCE


def score_interval(share: float, trials: float, spread: float) -> tuple[float, float]:
    """Return the score interval of a share; a trial may also be partly right.

    It solves |share - p| = z · standard error(p) for p as Wilson does, with the observed spread in
    place of trials · share · (1 - share). For trials that are right or wrong the two are the same;
    for graded ones the interval is narrower where they agree. A spread of 0 does not give a width
    of 0, since z²/2 trials of each outcome are added to the observed ones.

    Args:
        share: observed mean, in [0, 1].
        trials: how many there were; above 0, not always whole.
        spread: trials · variance of one trial.

    Returns:
        Lower and upper end, in [0, 1], around the share.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if trials <= 0:
        raise ValueError("a share of no trials has no interval")
    square = _Z * _Z
    center = (trials * share + square / 2) / (trials + square)
    half = _Z * math.sqrt(max(spread, 0.0) + square / 4) / (trials + square)
    return max(0.0, min(share, center - half)), min(1.0, max(share, center + half))


def wilson_estimate(right: float, trials: int) -> Estimate:
    """Return the share of right trials with Wilson's interval.

    Raises ValueError for no trials, or more right ones than trials.
    """
    if not 0 <= right <= trials:
        raise ValueError(f"{right} right of {trials} trials")
    if trials == 0:
        raise ValueError("a share of no trials has no interval")
    share = right / trials
    low, high = score_interval(share, trials, trials * share * (1 - share))
    return Estimate(share, low, high)


def rounded(value: float | None) -> float | None:
    """Return a value with six decimals, None for none; raise ValueError if it isn't finite."""
    return None if value is None else round(_finite(value), 6)


def rounded_rate(value: float) -> float:
    """Return a learning rate with six significant digits: six decimals would make 1e-7 a 0."""
    return float(f"{_finite(value):.6g}")


def rounded_interval(estimate: Estimate | None) -> list[float] | None:
    """Return both ends with six decimals, None for none."""
    if estimate is None:
        return None
    return [round(_finite(end), 6) for end in estimate.interval]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} can't be written into an event")
    # A plain float, not numpy's, and no negative zero.
    return float(value) + 0.0
