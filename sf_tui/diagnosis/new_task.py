"""Whether a stage taught its new task: without that, a diagnosis has tested nothing.

Takes scores per example, as measured by the caller, and words the result.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from sf_tui.diagnosis.bootstrap import estimate_recovery
from sf_tui.diagnosis.rules import was_learned
from sf_tui.vocabulary.intervals import Estimate
from sf_tui.vocabulary.sizes import counted


@dataclass(frozen=True)
class NewTask:
    """The new task's score beside that at the stage's start."""

    name: str
    examples: int
    """Number of held-out examples behind every figure."""
    now: Estimate
    start: Estimate | None
    """None if it is unknown."""
    floor: float
    """Score of the best constant answer."""
    learned: bool

    def sentence(self, *, is_lost: bool) -> str:
        """Return the figures and what follows if the task was not learned.

        Args:
            is_lost: whether the old task was lost all the same.
        """
        begun = (
            f"{self.start.value:.3f} at the start" if self.start else f"guessing {self.floor:.3f}"
        )
        now = f"{self.now.value:.3f} ({self.now.low:.3f} to {self.now.high:.3f})"
        figures = f"{now} on {counted(self.examples, 'held-out example')}, {begun}"
        if is_lost:
            return (
                f"The new task '{self.name}' was not learned, as far as held-out examples show "
                f"({figures}); its training has changed the old task all the same."
            )
        return (
            f"The new task '{self.name}' was not learned ({figures}), so nothing was tested: only "
            "training that teaches something can cost an old task."
        )


def new_task_of(
    name: str, now: ArrayLike, start: ArrayLike | None, floor: float, seed: int = 0
) -> NewTask:
    """Return the new task's figures and whether it was learned.

    Args:
        name: the task.
        now: (examples,) bool, or scores in [0, 1].
        start: the same examples at the stage's start; None if it is unknown.
        floor: score of the best constant answer.
        seed: seed of the bootstrap.

    Raises ValueError as `estimate_recovery` does.
    """
    if start is None:
        found = estimate_recovery(now, seed=seed)
        learned = was_learned(found.now, None, None, floor)
        return NewTask(name, found.examples, found.now, None, floor, learned)
    found = estimate_recovery(start, now, seed=seed)
    assert found.recovered is not None  # `now` was given for it
    learned = was_learned(found.recovered, found.now, found.gain, floor)
    return NewTask(name, found.examples, found.recovered, found.now, floor, learned)
