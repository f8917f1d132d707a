"""What a repair searches before and while it tunes: the share of the change to keep, the best step.

On the straight line from the start weights to the current ones the new task is lost at one end and
the old one at the other. A repair begins where the loss that it then lowers is lowest already, and
keeps the step at which both tasks together are best.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sf_tui.neighbors.cache import TeacherCache
from sf_tui.recovery.case import RecoveryCase
from sf_tui.recovery.scoring import EvalSet, Scorer

COARSE = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Shares of the change that are tried first."""

FINER = (0.1, 0.05)
"""Distances from the best of them at which the next ones are tried."""


def find_keep(loss: Callable[[float], float]) -> float:
    """Return the share of the change, above 0 and up to 1, with the lowest loss of those tried.

    Source: linear interpolation between fine-tuned and original weights (WiSE-FT, Wortsman et al.
    2022, arXiv 2109.01903), the share chosen by the loss of a repair's own mixture.

    Args:
        loss: returns the loss with a share kept, in nats. It is called nine times at most; of two
            shares with the same loss the larger is taken.
    """
    found: dict[float, float] = {}

    def ask(keep: float) -> None:
        value = loss(keep)
        # A model whose values exceed its type has no loss.
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
    """The quality of the old side times that of the new one, as a repair maximizes it.

    The product favors a model that is good at both. The old side is the share of the start model's
    answers to neighbors that the model still gives; without neighbors, the accuracy on old rows. A
    side without anything to score counts as 1.

    Attributes:
        rows: rows that one score reads.
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
            case: its model is scored.
            scorer: of that model.
            kept_back: neighbors that are not trained on.
            old: rows of the old task; used where there are no neighbors.
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
