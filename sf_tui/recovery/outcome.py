"""What a recovery test found and what a repair did, and what they took."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sf_tui.diagnosis.arms import Arm
from sf_tui.diagnosis.verdict import Verdict


@dataclass
class RecoveryOutcome:
    """What a recovery test found."""

    verdict: Verdict
    arms: list[Arm]
    reference: Arm | None
    skipped: dict[str, str]
    start: np.ndarray | None
    now: np.ndarray
    examples: int
    tokens: int
    """Tokens trained on, in all arms; those of the reference left out."""
    forwarded: int
    """Tokens that only passed forward: neighbors' answers and scores."""
    seconds: float
    """Wall time of all of it, the reference left out."""
    tokens_per_second: float | None
    """Of training alone."""
    diverged: list[str] = field(default_factory=list)
    """Arms that ended early because their loss was no number any more."""


@dataclass(frozen=True)
class Accuracies:
    """A task before and after; None where there is nothing to score it on."""

    before: float | None
    after: float | None


@dataclass(frozen=True)
class RepairOutcome:
    """What a repair did."""

    old: Accuracies
    new: Accuracies
    start: float | None
    """The old task under the start weights, or what is known of it."""
    examples: int
    """Old examples that were trained on."""
    steps: int
    """The step whose weights stayed; 0: only the edit, or nothing."""
    seconds: float
    tokens: int
    """Tokens trained on."""
    forwarded: int
    """Tokens that only passed forward: neighbors' answers and scores."""
    keep: float | None
    """Share of the change since the start that was kept before the first step, or by the edit."""
    agreement: Accuracies
    """Share of the start model's answers to neighbors kept back that are given still."""
    learning_rate: float | None
    course: tuple[tuple[int, float], ...]
    """(step, joint score) wherever it was scored."""
    by: str

    def as_json(self) -> dict[str, object]:
        """Return it as `sf recover --json` prints it."""
        return {
            "old": {"before": self.old.before, "after": self.old.after},
            "new": {"before": self.new.before, "after": self.new.after},
            "start": self.start,
            "examples": self.examples,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "tokens": self.tokens,
            "forwarded_tokens": self.forwarded,
            "by": self.by,
            "keep": self.keep,
            "learning_rate": self.learning_rate,
            "agreement": {"before": self.agreement.before, "after": self.agreement.after},
            "course": [list(point) for point in self.course],
        }
