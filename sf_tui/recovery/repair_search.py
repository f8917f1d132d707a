"""The searches of a repair: the share of the change to keep, and the score of a step.

On the straight line from the start weights to the current ones, the new task is missing at one end
and the old one at the other. A repair starts at the point on this line with the lowest training
loss, and keeps the step at which both tasks together are best and the new one is above its floor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sf_tui.engine.weights import Snapshot
from sf_tui.neighbors.cache import TeacherCache
from sf_tui.recovery.case import RecoveryCase
from sf_tui.recovery.scoring import EvalSet, Scorer
from sf_tui.vocabulary.intervals import TOLERANCE

COARSE = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Shares of the change to try first."""

_MARGIN = 0.01
"""Added to the floor on the rows that choose."""

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


@dataclass(frozen=True)
class Parts:
    """The scores of both tasks, in [0, 1]; 1 for a task without rows to score."""

    old: float
    new: float

    @property
    def product(self) -> float:
        """The joint score: high only if both are."""
        return self.old * self.new


@dataclass(frozen=True)
class UnderFloor:
    """A state with the new task under its floor, which is good otherwise."""

    weights: Snapshot
    parts: Parts


class JointScore:
    """A repair's objective: old times new score, among the states above the new task's floor.

    The product favors a model that is good at both. A state under the floor ranks below every
    state above it, however good its old task is: 0.02 on both beats 0 times 1. The old task's
    score is the share of the start model's answers to neighbors that the model still gives or,
    without neighbors, the accuracy on old rows. A task without rows to score counts as 1.

    Attributes:
        rows: number of rows per score.
        most_old: the best old score that can be expected.
        under_floor: the best state under the floor since `forget`; None if there was none.
    """

    def __init__(
        self,
        case: RecoveryCase,
        scorer: Scorer,
        kept_back: TeacherCache | None,
        old: EvalSet | None,
        new: EvalSet | None,
        new_floor: float,
        *,
        held: TeacherCache | None = None,
    ) -> None:
        """Prepare the score.

        Args:
            case: the case whose model is scored; its weights must be those before the repair.
            scorer: scorer of that model.
            kept_back: neighbors not used for training.
            old: rows of the old task; used if there are no neighbors.
            new: rows of the new task.
            new_floor: share of the new task's score before the repair that has to be kept.
            held: more prompts of the new task, with the answers of the model before the repair;
                each counts as a row that was right.
        """
        self._case = case
        self._scorer = scorer
        self._held = held
        self._meter = case.meter()
        self._kept_back = kept_back
        self._old = old if kept_back is None else None
        self._new = new
        scored = (self._kept_back, self._old, self._new, held)
        self._new_floor = new_floor
        self.rows = sum(len(one) for one in scored if one is not None)
        self.most_old = 1.0
        self.before = self.measure()
        # The rows that choose are trained on, so they lose less than held-out ones.
        margin = min(_MARGIN, (1 - new_floor) / 2) if new_floor else 0.0
        self._least_new = (new_floor + margin) * self.before.new if new is not None else 0.0
        self.under_floor: UnderFloor | None = None

    def __call__(self) -> float:
        """Return the rank of the current weights, and remember the best under the floor."""
        parts = self.measure()
        rank = self.rank(parts)
        known = self.under_floor
        if rank < 0 and (known is None or parts.product > known.parts.product):
            self.under_floor = UnderFloor(Snapshot(self._case.layout), parts)
        return rank

    def like(
        self, kept_back: TeacherCache | None, old: EvalSet | None, held: TeacherCache | None
    ) -> JointScore:
        """Return the score with others of its parts; the model must have the weights from before.

        Args:
            kept_back: see `__init__`.
            old: see `__init__`.
            held: see `__init__`.
        """
        return JointScore(
            *(self._case, self._scorer, kept_back, old, self._new, self._new_floor), held=held
        )

    def measure(self) -> Parts:
        """Return the scores of the current weights."""
        old = new = 1.0
        if self._kept_back is not None:
            old = self._meter.measure(self._kept_back, range(len(self._kept_back)))[1]
        elif self._old is not None and self._case.old is not None:
            old = self._scorer.accuracy(self._old, self._case.old.metric)
        if self._new is not None and self._case.new is not None:
            new = self._scorer.accuracy(self._new, self._case.new.metric)
            if self._held is not None:
                count, more = len(self._new), len(self._held)
                same = self._meter.measure(self._held, range(more))[1]
                new = (count * new + more * same) / (count + more)
        return Parts(old, new)

    def rank(self, parts: Parts) -> float:
        """Return the joint score, in [0, 1]; minus 1 under the floor."""
        keeps = parts.new >= self._least_new - TOLERANCE
        return parts.product if keeps else parts.product - 1

    @staticmethod
    def shown(rank: float) -> float:
        """Return the joint score of a rank."""
        return rank + 1 if rank < 0 else rank

    def forget(self) -> None:
        """Forget the state under the floor."""
        self.under_floor = None
