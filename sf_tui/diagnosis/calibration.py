"""Calibration of the verdict: predicted against true labels over many cases.

Pure functions of labels and shares; the trial makes the cases and establishes the true labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sf_tui.vocabulary.intervals import Estimate, wilson_estimate
from sf_tui.vocabulary.verdicts import VERDICTS


@dataclass(frozen=True)
class ShareErrors:
    """Differences between spurious shares and the reference's, over all cases."""

    mean_absolute: float
    largest: float
    """Largest absolute difference."""


@dataclass(frozen=True)
class CalibrationBin:
    """The cases whose share is in [low, high); the last bin includes 1."""

    low: float
    high: float
    cases: int
    mean_share: float | None
    """None in an empty bin."""
    mean_reference: float | None


def confusion_matrix(
    true: Sequence[str], predicted: Sequence[str], labels: Sequence[str] = tuple(VERDICTS)
) -> NDArray[np.int64]:
    """Return (labels, labels) counts: rows are true labels, columns predicted ones.

    Raises ValueError for lists of different lengths, or a label that isn't among `labels`.
    """
    place = {label: index for index, label in enumerate(labels)}
    unknown = sorted({*true, *predicted} - place.keys())
    if unknown:
        raise ValueError(f"labels {unknown} are not among {list(labels)}")
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for true_label, predicted_label in zip(true, predicted, strict=True):
        counts[place[true_label], place[predicted_label]] += 1
    return counts


def labelling_accuracy(true: Sequence[str], predicted: Sequence[str]) -> Estimate:
    """Return the share of cases labelled correctly, with Wilson's interval.

    Raises ValueError for no cases, or lists of different lengths.
    """
    right = sum(a == b for a, b in zip(true, predicted, strict=True))
    return wilson_estimate(right, len(true))


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Return Spearman's rank correlation; None for fewer than two cases, or where one is constant.

    Equal values share the mean of their ranks, and the result is Pearson's correlation of the
    ranks, which holds with ties where the formula of squared rank differences doesn't.

    Raises ValueError as `share_errors` does.

    Source: Spearman 1904, "The proof and measurement of association between two things".
    """
    first, second = _as_pairs(x, y)
    ranks = [_mean_ranks(first), _mean_ranks(second)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    a, b = (rank - rank.mean() for rank in ranks)
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def share_errors(shares: ArrayLike, references: ArrayLike) -> ShareErrors:
    """Return the differences between spurious shares and those of the reference recovery.

    Raises ValueError for no cases, different lengths, or values that aren't finite.
    """
    ours, theirs = _as_pairs(shares, references)
    absolute = np.abs(ours - theirs)
    return ShareErrors(float(absolute.mean()), float(absolute.max()))


def calibration_table(
    shares: ArrayLike, references: ArrayLike, bins: int = 5
) -> tuple[CalibrationBin, ...]:
    """Return, for equal bins of our share, the mean of ours and of the reference's.

    Args:
        shares: (cases,) spurious shares in [0, 1].
        references: (cases,) those of the reference.
        bins: number of bins.

    Raises ValueError as `share_errors` does, and for a share outside [0, 1].
    """
    ours, theirs = _as_pairs(shares, references)
    if bins < 1 or ours.min() < 0 or ours.max() > 1:
        raise ValueError("shares must be between 0 and 1, in at least one bin")
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.searchsorted(edges, ours, side="right") - 1, 0, bins - 1)
    table = []
    for index in range(bins):
        here = bin_of == index
        filled = bool(here.any())
        table.append(
            CalibrationBin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                cases=int(here.sum()),
                mean_share=float(ours[here].mean()) if filled else None,
                mean_reference=float(theirs[here].mean()) if filled else None,
            )
        )
    return tuple(table)


def _as_pairs(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not first.size:
        raise ValueError(f"two lists of as many cases are needed: {first.shape}, {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a case has no finite value")
    return first, second


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]
