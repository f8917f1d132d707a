"""The searches of a repair: the share of the change to keep, and the best step.

On the straight line from the start weights to the current ones, the new task is missing at one end
and the old one at the other. A repair starts at the point on this line with the lowest training
loss, and keeps the step at which both tasks together are best.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sf_tui.neighbors.cache import TeacherCache
from sf_tui.recovery.case import RecoveryCase
from sf_tui.recovery.scoring import EvalSet, Scorer

COARSE = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Shares of the change to try first."""

FINER = (0.1, 0.05)
"""Distances from the best share at which to try the next ones."""


def find_keep(loss: Callable[[float], float]) -> float:
    """Search for the share of the change, in (0, 1], with the lowest loss.

    Source: linear interpolation between fine-tuned and original weights (WiSE-FT, Wortsman et al.
    2022, arXiv 2109.01903), with the share chosen by the loss on the repair's mixture.

    Args:
        loss: returns the loss for a share, in nats. Called at most nine times; of two shares with
            the same loss, the larger wins.
    """
    found: dict[float, float] = {}

    def ask(keep: float) -> None:
        value = loss(keep)
        # Overflowing activations give a non-finite loss.
        found[keep] = value if math.isfinite(value) else math.inf

    def best() -> float:
        return min(found, key=lambda keep: (found[keep], -keep))

    for keep in COARSE:
        ask(keep)

    for width in FINER:
        middle = best()
        for keep in (round(middle - width, 2), round(middle + width, 2)):
            if 0 < keep <= 1 and keep not in found:
                ask(keep)
    return best()


class JointScore:
    """A repair's objective: the score of the old task times the score of the new one.

    The product favors a model that is good at both. The old task's score is the share of the start
    model's answers to neighbors that the model still gives or, without neighbors, the accuracy on
    old rows. A task without rows to score counts as 1.

    Attributes:
        rows: number of rows per score.
    """

    def __init__(
        self,
        case: RecoveryCase,
        scorer: Scorer,
        kept_back: TeacherCache | None,
        old: EvalSet | None,
        new: EvalSet | None,
    ) -> None:
        """Prepare the score.

        Args:
            case: the case whose model is scored.
            scorer: scorer of that model.
            kept_back: neighbors not used for training.
            old: rows of the old task; used if there are no neighbors.
            new: rows of the new task.
        """
        self._case = case
        self._scorer = scorer
        self._meter = case.meter()
        self._kept_back = kept_back
        self._old = old if kept_back is None else None
        self._new = new
        scored = (self._kept_back, self._old, self._new)
        self.rows = sum(len(one) for one in scored if one is not None)

    def __call__(self) -> float:
        """Return the score of the current weights, in [0, 1]."""
        score = 1.0
        if self._kept_back is not None:
            score *= self._meter.measure(self._kept_back, range(len(self._kept_back)))[1]
        if self._old is not None and self._case.old is not None:
            score *= self._scorer.accuracy(self._old, self._case.old.metric)
        if self._new is not None and self._case.new is not None:
            score *= self._scorer.accuracy(self._new, self._case.new.metric)
        return score
