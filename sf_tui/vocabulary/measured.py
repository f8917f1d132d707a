"""A task's score with the number of its examples, and how both are written.

Every reader (console, `sf show`, narration, alerts) writes scores and drops with these functions,
so the same measurement reads the same everywhere, with no more decimals than its examples bear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sf_tui.vocabulary.declared import Measures
from sf_tui.vocabulary.intervals import (
    Estimate,
    difference,
    paired_difference,
    wilson_estimate,
)
from sf_tui.vocabulary.metrics import KL, Metric
from sf_tui.vocabulary.sizes import counted

NO_VALUE = "–"
KNOWN_FROM = 0.9
"""A task with at least this score at a start has little left to learn: that it does not rise says
nothing."""
_COARSE = 0.005
"""An interval narrower than this on either side bears a third decimal."""
_COARSE_POINTS = 0.02
"""A drop whose interval is narrower than this on either side bears tenths of a point."""


@dataclass(frozen=True)
class Score:
    """One measurement of a task on some of its held-out examples.

    Attributes:
        value: in the metric's unit.
        examples: number of examples; 0 if unknown.
        metric: what was measured.
        full: whether the whole held-out split was scored.
        kl: divergence from the start model in nats a token, if the examples are its own answers.
    """

    value: float
    examples: int
    metric: Metric
    full: bool = False
    kl: float | None = None

    @property
    def estimate(self) -> Estimate | None:
        """The value with its 95 % interval; None without one.

        Only shares have one. Answer tokens of the same example are not independent, so a share of
        tokens is treated as a share of examples, which is the wider interval.
        """
        if not self.metric.is_share or self.examples <= 0:
            return None
        right = min(max(self.value, 0.0), 1.0) * self.examples
        return wilson_estimate(right, self.examples)

    @property
    def right(self) -> int | None:
        """Number of right examples; None if the metric does not count whole examples."""
        count = self.value * self.examples
        if not self.metric.is_share or abs(count - round(count)) > 1e-6 * max(self.examples, 1):
            return None
        return round(count)


def score_in(measures: Measures | None, metric: Metric, *, full: bool) -> Score | None:
    """Return the score of a task from its measures in a probe; None if the metric is missing."""
    value = None if measures is None else measures.get(metric.name)
    if measures is None or value is None or not math.isfinite(value):
        return None
    return Score(value, int(measures.get("n") or 0), metric, full, measures.get(KL.name))


@dataclass(frozen=True)
class Drop:
    """How much a task lost between two scores, in its metric's unit.

    Attributes:
        value: in the metric's good direction; negative for a gain.
        estimate: the same with its 95 % interval; None if the metric has none.
        before: the earlier score.
        after: the later score.
    """

    value: float
    estimate: Estimate | None
    before: Score
    after: Score

    def exceeds(self, bound: float) -> bool:
        """Return whether the whole interval is past a bound; without one, whether the value is."""
        return (self.estimate.low if self.estimate else self.value) > bound


def drop_between(before: Score, after: Score, flips: tuple[int, int] | None = None) -> Drop:
    """Return the drop from one score to a later one of the same task.

    Args:
        before: the earlier score.
        after: the later score.
        flips: examples lost and gained, if both scores are of the same examples; the interval is
            then the narrower, paired one.
    """
    value = after.metric.drop(before.value, after.value)
    first, second = before.estimate, after.estimate
    if first is None or second is None:
        return Drop(value, None, before, after)
    right = before.right
    if flips is not None and right is not None:
        found = paired_difference(right, *flips, before.examples)
    else:
        found = difference(first, second)
    if not after.metric.higher_is_better:
        found = Estimate(-found.value, -found.high, -found.low)
    return Drop(value, found, before, after)


def format_score(
    score: Score | None, *, interval: bool = True, counts: bool = False, kl: bool = False
) -> str:
    """Return a score as `0.26 ± 0.09`, with counts as `0.26 ± 0.09, 26 of 101`; `–` for none.

    Args:
        score: the score.
        interval: whether to append the half-width of its 95 % interval, on its wider side.
        counts: whether to append how many examples are right, or how many were scored.
        kl: whether to append the divergence from the start model, if it was measured.
    """
    if score is None:
        return NO_VALUE
    estimate = score.estimate
    if estimate is None:
        text = format_number(score.value)
    else:
        half = half_width(estimate)
        decimals = 3 if half < _COARSE else 2
        text = f"{score.value:.{decimals}f}"
        if interval:
            text += f" ± {half:.{decimals}f}"
    if counts and score.examples:
        right = score.right
        scored = counted(score.examples, "example")
        text += f", {scored}" if right is None else f", {right} of {score.examples}"
    return f"{text}, {format_kl(score)}" if kl and score.kl is not None else text


def format_kl(score: Score | None) -> str:
    """Return the divergence from the start model as `KL 0.031`; empty if it was not measured."""
    return "" if score is None or score.kl is None else f"KL {format_number(score.kl)}"


def format_drop(drop: Drop | None, *, interval: bool = False) -> str:
    """Return a drop in signed points (`−74`, with its interval `−74 ± 9`); a loss is negative.

    A metric that is no share is written as the change of its value, consistent with the values
    beside it: a worse negative log-likelihood is positive.
    """
    if drop is None:
        return NO_VALUE
    if not drop.after.metric.is_share:
        change = -drop.value if drop.after.metric.higher_is_better else drop.value
        return signed(change, 2)
    half = half_width(drop.estimate) if drop.estimate else 1.0
    decimals = 1 if half < _COARSE_POINTS else 0
    text = signed(-100 * drop.value, decimals)
    if interval and drop.estimate:
        text += f" ± {100 * half:.{decimals}f}"
    return text


def half_width(estimate: Estimate) -> float:
    """Return the larger distance of an interval's ends from its value."""
    return max(estimate.high - estimate.value, estimate.value - estimate.low)


def signed(value: float, decimals: int) -> str:
    """Return a number with its sign and a typographic minus; a rounded zero has no sign."""
    if not round(value, decimals):
        return f"{0:.{decimals}f}"
    return f"{value:+.{decimals}f}".replace("-", "−")


def format_number(value: float | None) -> str:
    """Return a loss, norm or rate with three significant digits; `–` for none."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    size = abs(value)
    if value and (size < 1e-3 or size >= 1e5):
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    if size >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"
