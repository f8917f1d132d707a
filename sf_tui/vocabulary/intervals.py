"""A measured value with its 95 % interval: its computation and its JSON form.

Knows nothing of what is measured. The score interval needs no resampling; `bootstrap.py` resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95

# Sums of graded scores have rounding errors of about 1e-16; real differences between two accuracies
# on n examples are at least a small fraction of 1 / n.
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
        """Return whether a value is in the interval, ends included."""
        return self.low - TOLERANCE <= value <= self.high + TOLERANCE


def score_interval(
    share: float, trials: float, spread: float, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the score interval of a share; a trial may also be partly right.

    Solves |share - p| = z · standard error(p) for p as Wilson does, with the observed spread in
    place of trials · share · (1 - share). For right-or-wrong trials the two are the same; for
    graded ones the interval is narrower where they agree. A spread of 0 still gives a positive
    width, because z²/2 trials of each outcome are added to the observed ones.

    Args:
        share: observed mean, in [0, 1].
        trials: number of trials; above 0, not always whole.
        spread: trials · variance of one trial.
        confidence: coverage of the interval.

    Returns:
        Lower and upper end, in [0, 1], around the share.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if trials <= 0:
        raise ValueError("a share of no trials has no interval")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    square = z * z
    center = (trials * share + square / 2) / (trials + square)
    half = z * math.sqrt(max(spread, 0.0) + square / 4) / (trials + square)
    return max(0.0, min(share, center - half)), min(1.0, max(share, center + half))


def wilson_estimate(right: float, trials: int) -> Estimate:
    """Return the share of right trials with Wilson's interval.

    Raises ValueError for zero trials, or for more right ones than trials.
    """
    if not 0 <= right <= trials:
        raise ValueError(f"{right} right of {trials} trials")
    if trials == 0:
        raise ValueError("a share of no trials has no interval")
    share = right / trials
    low, high = score_interval(share, trials, trials * share * (1 - share))
    return Estimate(share, low, high)


def rounded(value: float | None) -> float | None:
    """Return a value rounded to six decimals, or None; raise ValueError if it isn't finite."""
    return None if value is None else round(_finite(value), 6)


def rounded_rate(value: float) -> float:
    """Return a learning rate rounded to six significant digits; decimals would turn 1e-7 into 0."""
    return float(f"{_finite(value):.6g}")


def rounded_interval(estimate: Estimate | None) -> list[float] | None:
    """Return both ends rounded to six decimals, or None for no estimate."""
    if estimate is None:
        return None
    return [round(_finite(end), 6) for end in estimate.interval]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} can't be written into an event")
    # A plain float, not numpy's, and no negative zero.
    return float(value) + 0.0
