"""A value with its 95 % interval: of a share, and of the difference of two shares.

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


def difference(before: Estimate, after: Estimate) -> Estimate:
    """Return `before` minus `after` of two independent shares, with its interval.

    Each is measured on its own examples. The ends combine those of the two score intervals.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions:
    comparison of eleven methods", method 10.
    """
    value = before.value - after.value
    low = value - math.hypot(before.value - before.low, after.high - after.value)
    high = value + math.hypot(before.high - before.value, after.value - after.low)
    return Estimate(value, max(low, -1.0), min(high, 1.0))


def paired_difference(right_before: int, lost: int, gained: int, trials: int) -> Estimate:
    """Return the drop of a share on the same examples, with its interval.

    Args:
        right_before: examples that were right before.
        lost: examples that were right before and are wrong after.
        gained: examples that were wrong before and are right after.
        trials: number of examples, above 0.

    Raises ValueError for counts that contradict each other.

    Source: Newcombe 1998, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", method 10.
    """
    both, neither = right_before - lost, trials - right_before - gained
    if min(both, neither, lost, gained) < 0 or trials <= 0:
        raise ValueError(f"{lost} lost and {gained} gained of {right_before} right in {trials}")
    before = wilson_estimate(right_before, trials)
    after = wilson_estimate(both + gained, trials)
    value = (lost - gained) / trials
    square = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    # With a continuity correction, as the source gives it, for a positive correlation.
    excess = float(both * neither - lost * gained)
    if excess > 0:
        excess = max(excess - trials / 2, 0.0)
    correlation = excess / math.sqrt(square) if square else 0.0

    def half(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    low = value - half(before.value - before.low, after.high - after.value)
    high = value + half(before.high - before.value, after.value - after.low)
    return Estimate(value, max(low, -1.0), min(high, 1.0))
