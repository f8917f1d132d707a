"""What a recovery test found and what it took."""

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
    """Tokens that only passed forward: neighbours' answers and scores."""
    seconds: float
    """Wall time of all of it, the reference left out."""
    tokens_per_second: float | None
    """Of training alone."""
    diverged: list[str] = field(default_factory=list)
    """Arms that ended early because their loss was no number any more."""
