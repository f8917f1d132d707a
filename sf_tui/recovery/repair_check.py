"""The check of a repair on held-out rows of the new task, and what follows if it fails.

The rows that choose a repair's weights were trained on, and can't show what the new task lost
beyond them. If its floor is broken on held-out rows, attempts follow that also hold what the model
made of the new task; then points on the way back to the weights before the repair. Held-out rows of
which the model knew little can't show a loss; then the rows that choose must keep the floor, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from sf_tui.engine.weights import Snapshot
from sf_tui.recovery.case import CaseTask, RecoveryCase
from sf_tui.recovery.outcome import Accuracies
from sf_tui.recovery.repair_attempts import ENOUGH, STEPS_BACK, Attempt, blend
from sf_tui.recovery.repair_search import JointScore
from sf_tui.recovery.scoring import EvalSet, Scorer
from sf_tui.vocabulary.intervals import TOLERANCE

TELLING = 0.5
"""Held-out score before a repair, relative to that on the rows that choose, from which held-out
rows alone show whether the floor is kept. A task of facts that occur once is known on its rows
only: 29 of 230 facts became 11 while the held-out rows stayed at 0 of 50."""


@dataclass(frozen=True)
class HeldAttempt:
    """An attempt that is made only if the ones before it break the floor."""

    run: Callable[[float], Attempt]
    """Tunes at a rate; leaves the model with any weights."""
    prompts: int
    """Number of prompts whose answers it holds."""
    joint: JointScore
    """The score that chooses its step."""


@dataclass(frozen=True)
class Checked:
    """The attempt that was kept, whose weights are in the model, and its held-out scores."""

    attempt: Attempt
    share: float
    """Share of the way from the weights before the repair."""
    old: float | None
    new: float | None
    held: int = 0
    """Number of prompts beyond the new task's rows whose answers it holds."""


class HeldOutCheck:
    """Chooses among a repair and what may replace it, by the new task's floor.

    Attributes:
        tells: whether the held-out rows alone show if the floor is kept.
    """

    def __init__(
        self,
        case: RecoveryCase,
        scorer: Scorer,
        before: Snapshot,
        joint: JointScore,
        before_new: float | None,
        floor: float,
        log: Callable[[str], None],
    ) -> None:
        """Prepare the check.

        Args:
            case: the case whose model is repaired.
            scorer: scorer of that model.
            before: the weights before the repair.
            joint: the score that chose the repair.
            before_new: the new task's held-out score before the repair; None without rows.
            floor: share of it that has to be kept.
            log: receives a line about each part.
        """
        self._case = case
        self._scorer = scorer
        self._before = before
        self._joint = joint
        self._before_new = before_new
        self._floor = floor
        self._log = log
        self.tells = tells_of_loss(before_new, joint.before.new)

    def run(
        self,
        best: Attempt,
        others: Iterable[HeldAttempt],
        search: Callable[[], Attempt] | None,
    ) -> Checked:
        """Return the repair that is kept, and leave its weights in the model.

        If nothing keeps the floor, the repair that comes nearest is returned.

        Args:
            best: the repair.
            others: attempts to make if it breaks the floor, in order.
            search: makes a last attempt at other rates; None if `best` is one.
        """
        first = self._score(best, 0)
        if self._holds(first) and search is None:
            return first
        self._log("the new task fell under its floor")
        tried = [(first, self._joint)]
        for other in others:
            tried.append((self._score(other.run(best.rate), other.prompts), other.joint))
            if self._is_good(*tried[-1]):
                return tried[-1][0]
        kept = [one for each in tried for one in self._kept(*each)]
        if search is not None and not any(self._is_good(*one) for one in kept):
            tried.append((self._score(search(), 0), self._joint))
            kept += self._kept(*tried[-1])
        if kept:
            # By what chose their steps, not by held-out rows of the old task: those only report.
            chosen, _ = max(kept, key=lambda one: _regained(*one))
            blend(self._case.layout, self._before, chosen.attempt.weights, chosen.share)
            return replace(chosen, share=chosen.share * chosen.attempt.share)
        nearest = max((one for one, _ in tried), key=lambda one: one.new or 0.0)
        nearest.attempt.weights.restore()
        return nearest

    def _is_good(self, found: Checked, joint: JointScore) -> bool:
        return self._holds(found) and _regained(found, joint) >= ENOUGH

    def _holds(self, found: Checked) -> bool:
        return self._keeps(found.new) and (self.tells or found.attempt.rank >= 0)

    def _kept(self, found: Checked, joint: JointScore) -> list[tuple[Checked, JointScore]]:
        """Return the point of a repair that keeps the floor; its share is that of the attempt."""
        if self._holds(found) and found.attempt.parts.old > joint.before.old:
            return [(replace(found, share=1.0), joint)]
        back = self._step_back(found, joint)
        return [] if back is None else [(back, joint)]

    def _score(self, attempt: Attempt, held: int) -> Checked:
        attempt.weights.restore()
        return Checked(attempt, attempt.share, *score_both(self._case, self._scorer), held)

    def _step_back(self, found: Checked, joint: JointScore) -> Checked | None:
        """Return the point with the largest share that keeps the floor and brings something."""
        attempt = found.attempt
        self._log("stepping back, for the new task's sake")
        for share in STEPS_BACK:
            blend(self._case.layout, self._before, attempt.weights, share)
            parts = joint.measure()
            if parts.old <= joint.before.old:
                return None
            if joint.rank(parts) < 0:
                continue
            old, new = score_both(self._case, self._scorer)
            if self._keeps(new):
                return Checked(replace(attempt, parts=parts), share, old, new, found.held)
        return None

    def _keeps(self, after: float | None) -> bool:
        before = self._before_new
        return before is None or after is None or after >= self._floor * before - TOLERANCE


def tells_of_loss(held_out: float | None, trained: float) -> bool:
    """Return whether held-out rows alone show what a repair costs the new task.

    Args:
        held_out: the score on them before the repair; None without any.
        trained: the score then on rows that were trained on.
    """
    return held_out is not None and held_out >= TELLING * trained


def scores_on_trained(
    new: CaseTask | None,
    rows: EvalSet | None,
    held_out_before: float | None,
    before: float,
    scorer: Scorer,
) -> Accuracies:
    """Return the new task's scores on trained rows, if held-out rows can't show a loss.

    Args:
        new: the task; None if there is none.
        rows: rows of it that were trained on; None without any.
        held_out_before: its score on held-out rows before the repair; None without any.
        before: its score on `rows` then.
        scorer: scorer of the model, which has the weights after the repair.
    """
    if new is None or rows is None or tells_of_loss(held_out_before, before):
        return Accuracies(None, None)
    return Accuracies(before, scorer.accuracy(rows, new.metric), len(rows), new.metric)


def old_accuracy(case: RecoveryCase, scorer: Scorer) -> float | None:
    """Return the old task's held-out score; None without rows to score."""
    old = case.old
    return scorer.accuracy(old.held_out, old.metric) if old and len(old.held_out) else None


def score_both(case: RecoveryCase, scorer: Scorer) -> tuple[float | None, float | None]:
    """Return the held-out scores of the old and the new task; None without rows to score."""
    new = case.new
    return (
        old_accuracy(case, scorer),
        scorer.accuracy(new.held_out, new.metric) if new and len(new.held_out) else None,
    )


def _regained(found: Checked, joint: JointScore) -> float:
    """Return the share of the missing old score that came back, by the score that chose."""
    missing = joint.most_old - joint.before.old
    gained = found.attempt.parts.old - joint.before.old
    return gained / missing if missing > 0 else float(gained >= 0)
