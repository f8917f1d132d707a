"""What speaks against *real*: a recovery that may have brought back more than the deciding one.

*real* says that the knowledge is gone, and only recoveries that failed can show it. One that only
did harm, or another one whose interval reaches further, leaves it open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sf_tui.diagnosis.bootstrap import RecoveryEstimates
from sf_tui.diagnosis.rules import REAL_BELOW, ArmResult
from sf_tui.vocabulary.intervals import Estimate

EstimateArm = Callable[[ArrayLike, ArrayLike, ArrayLike | None], RecoveryEstimates]
"""Returns the figures of one recovery from the scores now, recovered and at the start."""


@dataclass(frozen=True)
class Objection:
    """Why a loss that looks real to the deciding arm is not called so."""

    arm: str | None
    """The arm that may have brought back more; None if no arm's training helped."""
    share: Estimate | None
    """Its share of the loss that came back."""

    def sentence(self) -> str:
        """Return it for the user."""
        if self.arm is None or self.share is None:
            return (
                "No step of any training was better than the weights as they are, so the training "
                "may have failed, not the memory: 'real' is not shown."
            )
        low, high = self.share.interval
        return (
            f"But '{self.arm}' brings back {self.share.value:.3f} ({low:.3f} to {high:.3f}) of the "
            f"loss: as long as that may be {REAL_BELOW:g} or more, 'real' is not shown."
        )


def objection_to_real(
    now: ArrayLike,
    arms: Sequence[ArmResult],
    start: ArrayLike | None,
    estimate: EstimateArm,
) -> Objection | None:
    """Return what speaks against *real*, the strongest first; None if nothing does.

    Args:
        now: (examples,) scores, as for `decide_verdict`.
        arms: all arms that were run. Those whose control left the floor have no say; one that was
            scored on fewer examples is compared on those.
        start: scores on the same examples at the stage's start, or a single accuracy, or None.
        estimate: returns the figures of one arm.
    """
    allowed = [arm for arm in arms if arm.allowed]
    found = []
    for arm in allowed:
        examples = len(np.asarray(arm.recovered))
        before = start if start is None or np.ndim(start) == 0 else np.asarray(start)[:examples]
        share = estimate(np.asarray(now)[:examples], arm.recovered, before).spurious_share
        if share is not None and share.high >= REAL_BELOW:
            found.append(Objection(arm.name, share))
    if found:
        return max(found, key=lambda one: one.share.high if one.share else 0.0)
    trained = [arm for arm in allowed if arm.tokens]
    if trained and not any(arm.steps for arm in trained):
        return Objection(None, None)
    return None
