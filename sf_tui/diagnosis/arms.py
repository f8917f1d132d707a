"""An arm of the recovery test as it came out, and which arm speaks for the test.

Knows only figures: how an arm was run is no matter here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sf_tui.diagnosis.bootstrap import as_scores
from sf_tui.diagnosis.intervals import wilson_estimate

# A guess floor is itself measured or reckoned from the answers' frequencies, and tuning on answers
# of the right form makes guesses a little better without teaching any fact.
CONTROL_MARGIN = 0.05


@dataclass(frozen=True, eq=False, kw_only=True)
class Arm:
    """One recovery on a copy of the weights: what it brought back, and what it cost.

    Raises ValueError for a figure that isn't finite or lies outside its range.
    """

    name: str
    recovered: ArrayLike
    """(examples,) scores on the held-out examples that `now` was measured on, at the best step."""
    selection_accuracy: float
    """Accuracy on the slice that the best step was chosen on, no example of which is held out."""
    control: float | None
    """Accuracy after the same recovery on facts that the model never saw; None: not measured."""
    control_examples: int
    floor: float
    """What guessing reaches on those facts."""
    steps: int
    seconds: float
    tokens: int
    learning_rate: float
    exchanged: bool = False
    """Whether the control's facts are the held-out questions' with their answers exchanged."""

    def __post_init__(self) -> None:
        scores = as_scores(self.recovered, f"arm '{self.name}'")
        scores.flags.writeable = False
        object.__setattr__(self, "recovered", scores)
        shares = [self.selection_accuracy, self.floor, self.control or 0.0]
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"arm '{self.name}': accuracies and floor lie between 0 and 1")
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
        """Whether its control stays at the floor, so that what came back was not taught.

        It stays there when the lower end of the control's 95 % interval is at most the floor plus
        `CONTROL_MARGIN`; a control of few examples therefore seldom condemns. Without a control
        nothing speaks against the arm, and the verdict says that nothing was checked.
        """
        if self.control is None:
            return True
        control = wilson_estimate(self.control * self.control_examples, self.control_examples)
        return control.low <= self.floor + CONTROL_MARGIN


def strongest_arm(arms: Iterable[Arm]) -> Arm | None:
    """Return the allowed arm that was best on the selection slice, of equals the more thorough one.

    Where little was lost several arms fill the slice, and the one that trained on more tokens says
    more of what can be brought back.

    The held-out examples have no say: the best of several arms on the examples that it is reported
    on would be too good by what luck adds to a maximum. None when no arm is allowed.
    """
    allowed = [arm for arm in arms if arm.allowed]
    return max(allowed, key=lambda arm: (arm.selection_accuracy, arm.tokens), default=None)
