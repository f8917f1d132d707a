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
from sf_tui.vocabulary.measured import KNOWN_FROM
from sf_tui.vocabulary.verdicts import VerdictName

CONTROL_MARGIN = 0.05
"""How far above the floor a control may end. The floor is itself measured, or computed from the
answers' frequencies, and training on answers of the right form improves guesses slightly without
teaching any fact."""

SPURIOUS_OF_START = 0.9
"""Share of the start's accuracy that a recovery must reach for *spurious*."""
REAL_BELOW = 0.25
"""Spurious share below which the loss is *real*."""
PARTIAL_WIDTH = 0.25
"""Widest interval of the spurious share that bears *partial*. Every recovery shows only a lower
bound: of 38 examples, 0.71 (0.55 to 0.83) excludes both neighbors, and a longer recovery brought
0.98."""

INTERIM_CONFIDENCE = 0.999
"""Coverage of the intervals by which a test may end before its last round.

A test that ended as soon as its 95 % interval bears a label would err more often than 95 % allows:
each further look at the same examples is another chance. At 99.9 % a look adds at most 0.05 % on
each side, so the last look keeps its 95 %.

Source: Haybittle 1971, "Repeated assessment of results in clinical trials of cancer treatment";
Peto et al. 1976, "Design and analysis of randomized clinical trials", part I."""


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
    """The step whose weights were scored; 0 if those before the first step were best."""
    seconds: float
    tokens: int
    learning_rate: float
    steps_taken: int | None = None
    """Steps in all, including those after the best one; None: `steps`."""
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
    - `real`: the upper end of the spurious share is under 0.25. `decide_verdict` asks the other
      recoveries, too; see `objection_to_real`.
    - `spurious`: the lower end of recovered is at least 0.9 of the start, and the lower end of the
      spurious share at least 0.25. Recovered alone doesn't do: after a small drop it is 0.9 of the
      start although nothing came back.
    - `partial`: the lower end of the spurious share is at least 0.25, the upper end of recovered
      under 0.9 of the start, and the share's interval at most 0.25 wide.
    - `inconclusive`: the intervals allow two of these, or are too wide. What they do bear is a
      lower bound, the lower end of the spurious share.

    The start counts with its value, not its interval. `real`, `spurious` and `partial` exclude one
    another, so they are closed; *none* is if at most a tenth of the start can have been lost;
    `inconclusive` never is.
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
    if share.high < REAL_BELOW:
        return "real", True
    if share.low < REAL_BELOW:
        return "inconclusive", False
    if recovered.low >= enough:
        return "spurious", True
    if recovered.high < enough and share.width <= PARTIAL_WIDTH:
        return "partial", True
    return "inconclusive", False


def was_learned(now: Estimate, start: Estimate | None, gain: Estimate | None, floor: float) -> bool:
    """Return whether a stage taught its new task anything.

    It did if the lower end of the gain since the start is above 0. A task that was known already
    (a start of at least 0.9) counts as learned. If the start is unknown, the lower end of the score
    must be above the floor.

    Args:
        now: the new task's score.
        start: its score at the stage's start; None if it is unknown.
        gain: now - start, on the same examples.
        floor: the score of guessing.
    """
    if start is None or gain is None:
        return now.low > floor + TOLERANCE
    return gain.low > TOLERANCE or start.value >= KNOWN_FROM
