"""The attempts of a repair: which learning rates are tried, and which weights are the best.

Each attempt tunes from the same weights at one rate. The first rate is the given one or the
stage's; others are tried if it brings too little back or leaves no state above the new task's
floor. Between the weights before the repair and the best ones lies a line; the point on it that
keeps the floor is a candidate too. Judges by the joint score alone and never sees held-out rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.parts import part
from sf_tui.engine.step import Loss
from sf_tui.engine.weights import Snapshot
from sf_tui.recovery.case import RecoveryCase
from sf_tui.recovery.edits.edit import wide
from sf_tui.recovery.progress import OnStep
from sf_tui.recovery.repair_search import JointScore, Parts
from sf_tui.recovery.short_tuning import Tuned, tune_briefly
from sf_tui.vocabulary.sizes import counted

RATES = (5e-6, 2e-5, 8e-5, 3.2e-4, 1.28e-3)
"""Rates to search: AdamW's step is about as long as its rate, whatever the model."""
ADAPTER_RATES = (2e-5, 8e-5, 3.2e-4, 1.28e-3, 5.12e-3)
"""Rates to search if an adapter trains; 1.28e-3 was the best for one that was tuned at 4e-3."""

_SEARCH_STEPS = 20
_SAME_RATE = 1.5
"""Rates closer than this factor count as the same."""
_FULL_ATTEMPTS = 2
"""Most attempts with all steps after a search."""

ENOUGH = 0.33
"""Share of the missing old score that the stage's rate has to bring back."""
_TRADED = 0.5
"""Share of the new score that a rate has to leave, if the rate isn't what is wrong."""
_SOME = 0.02
"""Old score that a given rate has to bring back."""

STEPS_BACK = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
"""Shares of a repair to keep, tried in this order."""


@dataclass(frozen=True)
class Attempt:
    """The best weights of one attempt, by the joint score."""

    weights: Snapshot
    parts: Parts
    rank: float
    rate: float
    step: int
    course: tuple[tuple[int, float], ...]
    diverged: bool
    share: float = 1.0
    """Share kept of the way from the weights before the repair."""


class RepairAttempts:
    """Tunes at one rate after another and keeps the best weights.

    Attributes:
        tokens: number of trained tokens.
        search_later: tries other rates; set if `run` left that out.
    """

    def __init__(
        self,
        case: RecoveryCase,
        losses: Sequence[Loss],
        joint: JointScore,
        before: Snapshot,
        parts_before: Parts,
        *,
        steps: int,
        score_every: int,
        log: Callable[[str], None],
        on_step: OnStep | None,
    ) -> None:
        """Prepare; the model's current weights are those from which every attempt begins.

        Args:
            case: the case.
            losses: losses to sum in each step.
            joint: the score that chooses.
            before: the weights before the repair.
            parts_before: their score.
            steps: largest number of steps of an attempt.
            score_every: steps between two scores.
            log: receives a line for each attempt.
            on_step: called after every step.
        """
        self._case = case
        self._losses = losses
        self._joint = joint
        self._before = before
        self._parts_before = parts_before
        self._steps = steps
        self._score_every = score_every
        self._log = log
        self._on_step = on_step
        self._begin = Snapshot(case.layout)
        self._promising: Attempt | None = None
        self._rates = ADAPTER_RATES if case.trains_adapter else RATES
        self.tokens = 0
        self._sources: dict[float, str] = {}
        self.search_later: Callable[[], Attempt] | None = None

    def run(self, rate: float | None, source: str, *, is_given: bool, holds: bool) -> Attempt:
        """Return the best attempt.

        Args:
            rate: the rate to try first; None for a search.
            source: where it comes from, for the user.
            is_given: whether the user gave it; then others are tried only if it is of no use.
            holds: whether attempts with more to hold the new task can follow. If the first rate
                brings the old task back, but not the new one, they come before the search.
        """
        if rate is None:
            self._log("which learning rate")
            return self._best_of_search(None, None, "the stage's is unknown")
        first = self._attempt(rate)
        self._sources[rate] = source
        problem = self._problem(first, is_given=is_given)
        if problem is None:
            return first
        why = f"{rate:.1e}, {source}, {problem}"

        def search() -> Attempt:
            self._log(f"other learning rates: {why}")
            return self._best_of_search(first, rate, why)

        if holds and self._trades():
            self.search_later = search
            return self._back_above_floor(first)
        return search()

    def source(self, rate: float) -> str:
        """Return how the rate of an attempt was found, for the user."""
        return self._sources.get(rate, "")

    def _trades(self) -> bool:
        """Return whether a state brings enough of the old task back for some of the new one."""
        found, before = self._promising, self._parts_before
        return (
            found is not None
            and found.parts.old - before.old >= ENOUGH * (self._joint.most_old - before.old)
            and found.parts.new >= _TRADED * before.new
        )

    def _best_of_search(self, best: Attempt | None, tried: float | None, why: str) -> Attempt:
        ranked = self._search(tried)
        for found in ranked[:_FULL_ATTEMPTS]:
            attempt = self._attempt(found)
            self._sources[found] = f"found by a search; {why}"
            if best is None or attempt.rank > best.rank:
                best = attempt
            if self._problem(attempt, is_given=False) is None:
                break
        if best is None:
            # Every rate of the search diverged.
            best = self._attempt(self._rates[0])
            self._sources[self._rates[0]] = f"the lowest of a search; {why}"
        return self._back_above_floor(best)

    def again(
        self,
        losses: Sequence[Loss],
        joint: JointScore,
        *,
        longer: int,
        begin: Snapshot | None = None,
    ) -> RepairAttempts:
        """Return attempts with other losses and another score.

        Args:
            losses: losses to sum in each step.
            joint: the score that chooses.
            longer: factor of the number of steps.
            begin: the weights to begin with; None for the same.
        """
        (begin or self._begin).restore()
        return RepairAttempts(
            self._case,
            losses,
            joint,
            self._before,
            joint.before,
            steps=longer * self._steps,
            score_every=longer * self._score_every,
            log=self._log,
            on_step=self._on_step,
        )

    def one(self, rate: float) -> Attempt:
        """Return an attempt at one rate, above the floor if any point of it is."""
        return self._back_above_floor(self._attempt(rate))

    def _search(self, tried: float | None) -> list[float]:
        """Return the rates of the search, best first, without those that diverged."""
        found: dict[float, float] = {}
        for rate in self._rates:
            if tried is not None and 1 / _SAME_RATE < rate / tried < _SAME_RATE:
                continue
            self._begin.restore()
            tuned = self._tune(rate, min(_SEARCH_STEPS, self._steps), score=False)
            if not tuned.diverged:
                found[rate] = self._joint.rank(self._joint.measure())
        return sorted(found, key=lambda rate: -found[rate])

    def _attempt(self, rate: float) -> Attempt:
        self._begin.restore()
        self._log(f"repairing: up to {counted(self._steps, 'step')} at {rate:.1e}")
        self._joint.forget()
        tuned = self._tune(rate, self._steps, score=True)
        parts = self._joint.measure()
        # A rank below 0 marks a state under the floor; the course shows the joint score.
        course = tuple((step, self._joint.shown(rank)) for step, rank in tuned.scores)
        attempt = Attempt(
            Snapshot(self._case.layout),
            parts,
            self._joint.rank(parts),
            rate,
            tuned.best_step,
            course,
            tuned.diverged,
        )
        under = self._joint.under_floor
        if under is not None and (
            self._promising is None or under.parts.product > self._promising.parts.product
        ):
            self._promising = Attempt(
                under.weights,
                under.parts,
                self._joint.rank(under.parts),
                rate,
                max((rank, step) for step, rank in tuned.scores if rank < 0)[1],
                course,
                diverged=False,
            )
        return attempt

    def _tune(self, rate: float, steps: int, *, score: bool) -> Tuned:
        tuned = tune_briefly(
            self._case.model,
            self._case.layout,
            self._losses,
            steps=steps,
            learning_rate=rate,
            score=self._joint if score else None,
            score_every=self._score_every,
            on_step=self._on_step,
        )
        self.tokens += tuned.tokens
        return tuned

    def _problem(self, attempt: Attempt, *, is_given: bool) -> str | None:
        """Return what is wrong with an attempt's rate; None if it is good enough."""
        missing = self._joint.most_old - self._parts_before.old
        gained = attempt.parts.old - self._parts_before.old
        wanted = _SOME if is_given else max(ENOUGH * missing, _SOME)
        if attempt.rank >= 0 and gained >= min(wanted, missing):
            return None
        if attempt.diverged:
            return "diverged"
        if attempt.rank < 0:
            return "left the new task under its floor"
        return "brought too little back"

    def _back_above_floor(self, best: Attempt) -> Attempt:
        """Return a point above the floor on the way to a state under it, if that is better."""
        under = best if best.rank < 0 else self._promising
        if under is None or (under.parts.old <= best.parts.old and best.rank >= 0):
            return best
        self._log("how much of the repair keeps the new task")
        for share in STEPS_BACK:
            blend(self._case.layout, self._before, under.weights, share)
            parts = self._joint.measure()
            rank = self._joint.rank(parts)
            if rank < 0:
                continue
            gained = parts.old > self._parts_before.old
            if gained and (best.rank < 0 or rank > best.rank):
                return Attempt(
                    Snapshot(self._case.layout),
                    parts,
                    rank,
                    under.rate,
                    under.step,
                    under.course,
                    diverged=False,
                    share=share,
                )
            break
        return best


@torch.no_grad()
def blend(layout: ModelLayout, first: Snapshot, second: Snapshot, share: float) -> None:
    """Set a model's weights to a point on the line between two snapshots of it.

    A parameter that is equal in both stays bit-identical.

    Args:
        layout: the model's layers.
        first: the weights at share 0.
        second: the weights at share 1.
        share: from 0 to 1.
    """
    for layer in layout.layers:
        pairs = zip(first.tensors(layer.name), second.tensors(layer.name), strict=True)
        for (name, one), (_, other) in pairs:
            if torch.equal(one, other):
                part(layer.parameters[name]).copy_(one)
                continue
            precise = wide(one.dtype)
            between = torch.lerp(one.to(precise), other.to(precise), share)
            part(layer.parameters[name]).copy_(between)
