"""Intervals of a recovery test's figures: a paired bootstrap over held-out examples.

Takes scores per example and draws no conclusions. Treats examples as independent; the caller
guarantees that they were held out and that nothing was chosen on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sf_tui.errors import UsageError
from sf_tui.vocabulary.intervals import (
    CONFIDENCE,
    TOLERANCE,
    Estimate,
    score_interval,
)

RESAMPLES = 4000

Floats = NDArray[np.float64]

# 8 bytes each: 16 MB at a time, regardless of the number of examples.
_CELLS_AT_A_TIME = 2_000_000


@dataclass(frozen=True)
class RecoveryEstimates:
    """Accuracies before, after and with a recovery, and derived figures, with intervals."""

    examples: int
    """Number of held-out examples behind every figure."""
    now: Estimate
    start: Estimate | None
    """None if it is unknown; every figure that depends on it is then None as well."""
    drop: Estimate | None
    """start - now."""
    recovered: Estimate | None
    """None if no recovery was run."""
    gain: Estimate | None
    """recovered - now."""
    spurious_share: Estimate | None
    """(recovered - now) / (start - now) in [0, 1]; None without a drop."""
    real_share: Estimate | None
    """(start - recovered) / (start - now) in [0, 1]; None without a drop."""


def estimate_recovery(
    now: ArrayLike,
    recovered: ArrayLike | None = None,
    start: ArrayLike | None = None,
    *,
    start_examples: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> RecoveryEstimates:
    """Return the figures of one recovery with intervals, of 95 % unless named otherwise.

    Every interval is the percentile interval of a bootstrap that draws whole examples (start, now
    and recovered together), *widened* to the score interval of the same figure. The percentile
    interval alone has no width where all examples agree (five of five right would read "1.0,
    certain") and is too narrow near there. The score interval is wide enough; for plain right or
    wrong it is Wilson's: five of five give 0.57 to 1. Differences are scored as shares on [-1, 1];
    the spurious share is scored over the net number of lost examples, with the spread of (recovered
    - now) - share · (start - now).

    A resample whose drop is 0 or less leaves the share undetermined. It counts as 0 for the lower
    end and as 1 for the upper one, so that a drop that may not exist gives the interval 0 to 1
    instead of a ratio of noise. The real share is one minus the spurious share, with the ends
    exchanged.

    Args:
        now: (examples,) bool, or scores in [0, 1].
        recovered: the same examples after the recovery; None if none was run.
        start: the same examples at the stage's start, or a single known accuracy, or None if it is
            unknown.
        start_examples: number of examples behind that single accuracy. None: it is exact. Otherwise
            it is drawn again in each resample, independently of the examples.
        resamples: number of resamples.
        seed: the same seed and examples, in any order, give the same intervals.
        confidence: coverage of the intervals. Far beyond 95 %, the resamples hold few values, and
            the score intervals decide.

    Raises UsageError for a start accuracy outside [0, 1]; ValueError for arrays that are empty,
    differ in length, or contain a value that isn't a score.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13 (percentile
    interval); Wilson 1927 (score interval); Newcombe 1998, "Interval estimation for the difference
    between independent proportions", method 10 (a single start accuracy with measured examples).
    """
    columns = {"now": as_scores(now, "now")}
    if recovered is not None:
        columns["recovered"] = as_scores(recovered, "recovered")
    number = None
    if start is not None and np.ndim(start) == 0:
        number = _known_start(float(np.asarray(start)), start_examples, confidence)
    elif start is not None:
        columns["start"] = as_scores(start, "start")

    rng = np.random.default_rng(seed)
    drawn = dict(zip(columns, _resample_means(columns, resamples, rng), strict=True))
    known = {name: _mean(scores, drawn[name], confidence) for name, scores in columns.items()}

    gain = drop = share = None
    if recovered is not None:
        gain = _difference(
            columns["recovered"] - columns["now"],
            drawn["recovered"] - drawn["now"],
            confidence,
        )
    if number is not None:
        known["start"] = number
        drawn["start"] = _draw_number(number, start_examples, resamples, rng)
        drop = _drop_from_number(number, known["now"], drawn["start"] - drawn["now"], confidence)
    elif start is not None:
        drop = _difference(
            columns["start"] - columns["now"], drawn["start"] - drawn["now"], confidence
        )
    if drop is not None and gain is not None and drop.value > TOLERANCE:
        share = _spurious_share(columns, drawn, known["start"].value, start_examples, confidence)
    return RecoveryEstimates(
        examples=len(columns["now"]),
        now=known["now"],
        start=known.get("start"),
        drop=drop,
        recovered=known.get("recovered"),
        gain=gain,
        spurious_share=share,
        real_share=Estimate(1 - share.value, 1 - share.high, 1 - share.low) if share else None,
    )


def paired_difference(
    arm: ArrayLike, reference: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Return one arm's accuracy minus another's on the same examples.

    Args:
        arm: (examples,) bool, or scores in [0, 1].
        reference: the same examples after the other recovery.
        resamples: number of resamples.
        seed: the same seed and examples give the same interval.

    Raises ValueError as `estimate_recovery` does, and computes the interval in the same way.
    """
    columns = {
        "arm": as_scores(arm, "arm"),
        "reference": as_scores(reference, "reference"),
    }
    drawn_arm, drawn_reference = _resample_means(columns, resamples, np.random.default_rng(seed))
    return _difference(
        columns["arm"] - columns["reference"], drawn_arm - drawn_reference, CONFIDENCE
    )


def as_scores(scores: ArrayLike, name: str) -> Floats:
    """Return scores as (examples,) floats; raise a ValueError with `name` for other values."""
    values = np.array(scores, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"{name}: one score an example is needed, not shape {values.shape}")
    if not bool(np.all((values >= 0) & (values <= 1))):
        raise ValueError(f"{name}: scores must be between 0 and 1")
    return values


def _known_start(accuracy: float, examples: int | None, confidence: float) -> Estimate:
    if not 0 <= accuracy <= 1:
        likely = f"did you mean {accuracy / 100:g}?" if 1 < accuracy <= 100 else ""
        raise UsageError(f"a start accuracy of {accuracy:g} isn't between 0 and 1", likely)
    if examples is None:
        return Estimate(accuracy, accuracy, accuracy)
    spread = examples * accuracy * (1 - accuracy)
    return Estimate(accuracy, *score_interval(accuracy, examples, spread, confidence))


def _draw_number(
    number: Estimate, examples: int | None, resamples: int, rng: np.random.Generator
) -> Floats:
    if examples is None:
        return np.full(resamples, number.value)
    return rng.binomial(examples, number.value, size=resamples) / examples


def _resample_means(
    columns: dict[str, Floats], resamples: int, rng: np.random.Generator
) -> list[Floats]:
    lengths = {name: len(scores) for name, scores in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"not the same examples: {lengths}")
    examples = next(iter(lengths.values()))
    # The counts of distinct rows are multinomial: right and wrong give at most eight rows, however
    # many examples there are, and their order can't matter.
    rows, counts = np.unique(np.stack(list(columns.values()), axis=1), axis=0, return_counts=True)
    at_a_time = max(1, _CELLS_AT_A_TIME // len(rows))
    means = np.concatenate(
        [
            rng.multinomial(examples, counts / examples, size=min(at_a_time, resamples - first))
            @ rows
            / examples
            for first in range(0, resamples, at_a_time)
        ]
    )
    # Means of graded scores may exceed the bounds by a rounding error.
    return [np.clip(column, 0, 1) for column in means.T]


def _widened(
    value: float,
    drawn_low: Floats,
    drawn_high: Floats,
    score: tuple[float, float],
    confidence: float,
) -> Estimate:
    outside = (1 - confidence) / 2
    # Round outward to a drawn value: with few examples, the draws are far apart.
    low = float(np.quantile(drawn_low, outside, method="lower"))
    high = float(np.quantile(drawn_high, 1 - outside, method="higher"))
    return Estimate(value, min(value, low, score[0]), max(value, high, score[1]))


def _mean(scores: Floats, drawn: Floats, confidence: float) -> Estimate:
    value, examples = float(scores.mean()), len(scores)
    score = score_interval(value, examples, examples * float(scores.var()), confidence)
    return _widened(value, drawn, drawn, score, confidence)


def _difference(differences: Floats, drawn: Floats, confidence: float) -> Estimate:
    value, examples = float(differences.mean()), len(differences)
    # Map the difference from [-1, 1] to a share in [0, 1].
    spread = examples * float(differences.var()) / 4
    low, high = score_interval((value + 1) / 2, examples, spread, confidence)
    return _widened(value, drawn, drawn, (2 * low - 1, 2 * high - 1), confidence)


def _drop_from_number(start: Estimate, now: Estimate, drawn: Floats, confidence: float) -> Estimate:
    value = start.value - now.value
    low = value - math.hypot(start.value - start.low, now.high - now.value)
    high = value + math.hypot(start.high - start.value, now.value - now.low)
    return _widened(value, drawn, drawn, (low, high), confidence)


def _spurious_share(
    columns: dict[str, Floats],
    drawn: dict[str, Floats],
    start_value: float,
    start_examples: int | None,
    confidence: float,
) -> Estimate:
    now, recovered = columns["now"], columns["recovered"]
    start = columns.get("start", np.full_like(now, start_value))
    examples, drop = len(now), start_value - float(now.mean())
    share = float(np.clip((recovered.mean() - now.mean()) / drop, 0, 1))

    residual = (recovered - now) - share * (start - now)
    spread = examples * float(residual.var())
    if "start" not in columns and start_examples is not None:
        # The uncertainty of the start accuracy moves the share by share / drop.
        of_start = start_value * (1 - start_value) / start_examples
        spread += (examples * share) ** 2 * of_start
    score = score_interval(share, examples * drop, spread, confidence)

    drops = drawn["start"] - drawn["now"]
    left_open = drops <= TOLERANCE
    ratio = (drawn["recovered"] - drawn["now"]) / np.where(left_open, 1.0, drops)
    shares = np.clip(ratio, 0, 1)
    return _widened(
        share,
        np.where(left_open, 0.0, shares),
        np.where(left_open, 1.0, shares),
        score,
        confidence,
    )
