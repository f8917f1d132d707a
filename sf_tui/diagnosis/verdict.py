"""The verdict on a lost task: what the strongest trustworthy recovery says, with its evidence.

Puts arms, intervals and the rule together; measures nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from sf_tui.diagnosis.arms import Arm, strongest_arm
from sf_tui.diagnosis.bootstrap import RESAMPLES, RecoveryEstimates, estimate_recovery
from sf_tui.diagnosis.evidence import tell_evidence
from sf_tui.diagnosis.judging import VerdictName, judge


@dataclass(frozen=True)
class Verdict:
    """What became of the old task, and why we say so."""

    name: VerdictName
    evidence: tuple[str, ...]
    """Sentences for people: what was measured, then what follows."""
    closed: bool
    """Whether the intervals shut out the verdicts beside this one; see `judge`."""
    controlled: bool
    """Whether the arm that speaks had a control (which stayed at the floor)."""
    arm: str | None
    """The arm that speaks; None when none was run, or none is allowed."""
    estimates: RecoveryEstimates
    """The figures of that arm; without one, those that need no recovery."""


def decide_verdict(
    now: ArrayLike,
    arms: Sequence[Arm] = (),
    start: ArrayLike | None = None,
    *,
    start_examples: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Verdict:
    """Return the verdict by the strongest arm whose control stays at the floor.

    When no arm is allowed the verdict is `inconclusive` (or `none`, which needs no arm). When the
    start is unknown it is always `inconclusive`, and the evidence says what can be concluded: how
    many points came back, and how much is known at least.

    Args:
        now: (examples,) bool, or scores in [0, 1], on the held-out examples.
        arms: the recoveries that may speak; each scored on those same examples.
        start: scores on the same examples at the stage's start; or one number; or None.
        start_examples: how many examples that one number was measured on; None: it is exact.
        resamples: how many the bootstrap draws.
        seed: of the bootstrap.

    Raises UsageError and ValueError as `estimate_recovery` does.
    """
    arm = strongest_arm(arms)
    estimates = estimate_recovery(
        now,
        arm.recovered if arm else None,
        start,
        start_examples=start_examples,
        resamples=resamples,
        seed=seed,
    )
    name, closed = judge(estimates)
    return Verdict(
        name=name,
        evidence=tell_evidence(name, closed, estimates, arm, arms),
        closed=closed,
        controlled=arm is not None and arm.control is not None,
        arm=arm.name if arm else None,
        estimates=estimates,
    )
