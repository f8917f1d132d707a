"""Chooses the deciding arm of a recovery test, and the verdict that its figures give.

Sees figures only. Other modules run the arms and word the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sf_tui.diagnosis.bootstrap import RecoveryEstimates, as_scores
from sf_tui.vocabulary.intervals import TOLERANCE, Estimate, wilson_estimate
from sf_tui.vocabulary.verdicts import VerdictName

CONTROL_MARGIN = 0.05
"""How far above the floor a control may end. The floor is itself measured, or computed from the
answers' frequencies, and training on answers of the right form improves guesses slightly without
teaching any fact."""

SPURIOUS_OF_START = 0.9
"""Share of the start's accuracy that a recovery must reach for *spurious*."""
REAL_BELOW = 0.25
"""Spurious share below which the loss is *real*."""
TOO_WIDE = 0.5
"""Width of the spurious share's interval above which it shows nothing."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ArmResult:
    """One recovery on a copy of the weights: its result and its cost.

    Raises ValueError for a figure that isn't finite or is outside its range.
    """

    name: str
    recovered: ArrayLike
    """(examples,) scores on the held-out examples that `now` was measured on, at the best step."""
    selection_accuracy: float
    """Accuracy on the slice that selects the best step; it contains no held-out example."""
    control: float | None
    """Accuracy after the same recovery on facts that the model never saw; None: not measured."""
    control_examples: int
    floor: float
    """Accuracy of guessing on those facts."""
    steps: int
    seconds: float
    tokens: int
    learning_rate: float
    exchanged: bool = False
    """Whether the control's facts are the held-out questions with their answers swapped."""

    def __post_init__(self) -> None:
        scores = as_scores(self.recovered, f"arm '{self.name}'")
        scores.flags.writeable = False
        object.__setattr__(self, "recovered", scores)
        shares = [self.selection_accuracy, self.floor, self.control or 0.0]
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"arm '{self.name}': accuracies and floor are between 0 and 1")
        if self.control is not None and self.control_examples < 1:
            raise ValueError(f"arm '{self.name}': a control needs examples")
        spent = [self.steps, self.seconds, self.tokens, self.learning_rate]
        if not all(math.isfinite(amount) and amount >= 0 for amount in spent):
            raise ValueError(f"arm '{self.name}': steps, seconds, tokens and rate are at least 0")

    @property
    def accuracy(self) -> float:
        """Mean of the held-out scores."""
        return float(np.mean(np.asarray(self.recovered)))

    @property
    def allowed(self) -> bool:
        """Whether its control stays at the floor, so that the arm taught no answers.

        It does if the lower end of the control's 95 % interval is at most the floor plus
        `CONTROL_MARGIN`; a control of few examples therefore rarely rules an arm out. An arm
        without a control is allowed, and the verdict states that nothing was checked.
        """
        if self.control is None:
            return True
        control = wilson_estimate(self.control * self.control_examples, self.control_examples)
        return control.low <= self.floor + CONTROL_MARGIN


def strongest_arm(arms: Iterable[ArmResult]) -> ArmResult | None:
    """Return the allowed arm with the best selection accuracy; None if none is allowed.

    Ties go to the arm that trained on more tokens: after a small loss several arms reach the top of
    the slice, and the longest training shows best what can be recovered.

    The held-out examples are not consulted. The best of several arms, chosen on the examples that
    it is reported on, would look better than it is.
    """
    allowed = [arm for arm in arms if arm.allowed]
    return max(allowed, key=lambda arm: (arm.selection_accuracy, arm.tokens), default=None)


def verdict_of(estimates: RecoveryEstimates) -> tuple[VerdictName, bool]:
    """Return the verdict, and whether it is closed.

    The first rule that applies gives the verdict:

    - `inconclusive` without a known start: neither the loss nor the recovered part can be measured.
      Even now = recovered does not show *none*: a real loss looks the same.
    - `none`: the drop's interval includes 0, or is below it.
    - `inconclusive` without a recovery.
    - `spurious`: the lower end of recovered is at least 0.9 of the start.
    - `real`: the upper end of the spurious share is under 0.25.
    - `inconclusive`: the interval is too wide. It is if it includes both a real reading (spurious
      share under 0.25) and a spurious one (recovered at least 0.9 of the start); if it is wider
      than 0.5; or if its middle is a real or a spurious reading that its ends don't support: five
      of five recovered is no evidence that something is missing.
    - `partial`.

    The start counts with its value, not its interval. A verdict is closed if the intervals rule out
    its neighbors: *none*, if at most a tenth of the start can have been lost; *spurious*, if the
    spurious share is at least 0.25 (after a small drop, recovered can be 0.9 of the start although
    nothing came back); *real*, if recovered stays under 0.9 of the start; *partial*, if both hold.
    `inconclusive` is never closed.
    """
    start, drop = estimates.start, estimates.drop
    if start is None or drop is None:
        return "inconclusive", False
    if drop.low <= TOLERANCE:
        return "none", drop.high <= (1 - SPURIOUS_OF_START) * start.value + TOLERANCE
    recovered, share = estimates.recovered, estimates.spurious_share
    if recovered is None or share is None:
        return "inconclusive", False
    enough = SPURIOUS_OF_START * start.value - TOLERANCE
    not_real, not_spurious = share.low >= REAL_BELOW, recovered.high < enough
    if recovered.low >= enough:
        return "spurious", not_real
    if share.high < REAL_BELOW:
        return "real", not_spurious
    if _too_wide(recovered, share, enough):
        return "inconclusive", False
    return "partial", not_real and not_spurious


def _too_wide(recovered: Estimate, share: Estimate, enough: float) -> bool:
    holds_both = share.low < REAL_BELOW and recovered.high >= enough
    leans = recovered.value >= enough or share.value < REAL_BELOW
    return holds_both or leans or share.width > TOO_WIDE
