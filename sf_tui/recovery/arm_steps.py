"""How many optimizer steps each arm of a recovery test takes, for its progress and its duration."""

from __future__ import annotations

import numpy as np

from sf_tui.recovery.arms import (
    EXAMPLES_RATES,
    EXAMPLES_STEPS,
    NEIGHBOR_RATES,
    NEIGHBOR_SEARCH_STEPS,
    UNRELATED_STEPS,
    Arm,
    ArmContext,
    ExamplesArm,
    NeighborsArm,
    UnrelatedArm,
    neighbor_steps,
)
from sf_tui.recovery.case import UNKNOWN_RATES


def planned_steps(arm: Arm, context: ArmContext) -> int:
    """Return the most steps of an arm, those of its search for a rate included; 0 for an edit."""
    known = context.knows_rate
    if isinstance(arm, ExamplesArm):
        return EXAMPLES_STEPS * len(EXAMPLES_RATES if known else UNKNOWN_RATES)
    if isinstance(arm, NeighborsArm):
        search = NEIGHBOR_SEARCH_STEPS * len(NEIGHBOR_RATES if known else UNKNOWN_RATES)
        bank = context.bank
        length = float(np.mean(bank.lengths)) if bank is not None and len(bank) else None
        return search + (context.steps or neighbor_steps(context.case, length))
    return UNRELATED_STEPS if isinstance(arm, UnrelatedArm) else 0
