"""What a recovery test found, and what it took."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sf_tui.diagnosis.rules import ArmResult
from sf_tui.diagnosis.verdict import Finding
from sf_tui.recovery.rounds import Rounds
from sf_tui.tasks.encoding import Encoded


@dataclass
class RecoveryOutcome:
    """The findings and costs of a recovery test."""

    finding: Finding
    arms: list[ArmResult]
    reference: ArmResult | None
    skipped: dict[str, str]
    """Reasons for skipped arms, by arm name."""
    start: np.ndarray | None
    """(held_out,) scores under the start weights; None if they are not available."""
    now: np.ndarray
    """(held_out,) scores under the current weights."""
    examples: int
    """Number of safe examples available to the arms."""
    tokens: int
    """Trained tokens over all arms except the reference."""
    forwarded: int
    """Tokens of forward passes only: neighbors' answers and scores."""
    seconds: float
    """Wall time without the reference arm."""
    tokens_per_second: float | None
    """Throughput of training alone."""
    diverged: list[str] = field(default_factory=list)
    """Names of arms that ended early because their loss was not finite."""
    rounds: Rounds = field(default_factory=Rounds)
    """What the deciding arm did beyond its own steps."""
    lost: tuple[Encoded, ...] = ()
    """Scored examples that were right under the start weights, if there are any, and are wrong."""
