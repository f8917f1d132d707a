"""How good a model is at both tasks together, as one number that a repair rises by."""

from __future__ import annotations

from sf_tui.neighbors.cache import TeacherCache
from sf_tui.recovery.case import RecoveryCase
from sf_tui.recovery.scoring import ScoredRows, Scorer


class JointScore:
    """The old side times the new one: half of each is worth less than one whole and one half.

    The old side is the share of the start model's answers to neighbors that are given still;
    without any, the accuracy on old rows. A side that there is nothing to score by counts as 1.

    Attributes:
        rows: rows that one score takes.
    """

    def __init__(
        self,
        case: RecoveryCase,
        scorer: Scorer,
        kept_back: TeacherCache | None,
        old: ScoredRows | None,
        new: ScoredRows | None,
    ) -> None:
        """Prepare it.

        Args:
            case: whose model is scored, as it then stands.
            scorer: scores rows.
            kept_back: neighbors that nothing is trained on.
            old: rows of the old task; they count where there are no neighbors.
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
        """Return it for the model as it stands, between 0 and 1."""
        score = 1.0
        if self._kept_back is not None:
            score *= self._meter.measure(self._kept_back, range(len(self._kept_back)))[1]
        if self._old is not None and self._case.old is not None:
            score *= self._scorer.accuracy(self._old, self._case.old.metric)
        if self._new is not None and self._case.new is not None:
            score *= self._scorer.accuracy(self._new, self._case.new.metric)
        return score
