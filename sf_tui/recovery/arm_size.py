"""How much the neighbors arm of a recovery test is tuned: by the stage's own work, in bounds."""

from __future__ import annotations

import numpy as np

from sf_tui.recovery.case import RecoveryCase

NEIGHBOR_ROWS = 8
"""Neighbors a step: of the same tokens, more steps of fewer bring back more of what is there, and
no more of what is gone. Measured on the starter: 0.94 for 0.92 with 16."""
NEIGHBOR_BUDGET = 0.29
"""Tokens of the arm, as a share of the stage's."""
UNKNOWN_STEPS = 400
"""Steps of the arm where nobody knows the stage's own work."""
FEWEST_NEIGHBOR_STEPS, MOST_NEIGHBOR_STEPS = 40, 800


def neighbor_rows(case: RecoveryCase) -> int:
    """Return the neighbor prompts of a step."""
    return min(NEIGHBOR_ROWS, max(case.batch_size, 1))


def neighbor_steps(case: RecoveryCase, row_tokens: float | None = None) -> int:
    """Return the steps of the arm.

    Args:
        case: what is tested.
        row_tokens: tokens of a neighbor with its answer, on average; None: as many as a row of
            the new task has, or of the old one where there is none.
    """
    if case.stage_tokens is None:
        return UNKNOWN_STEPS
    if row_tokens is None:
        rows = case.new.train if case.new else case.old.held_out.rows if case.old else ()
        row_tokens = float(np.mean([len(row.input_ids) for row in rows]))
    steps = NEIGHBOR_BUDGET * case.stage_tokens / (neighbor_rows(case) * row_tokens)
    return int(np.clip(steps, FEWEST_NEIGHBOR_STEPS, MOST_NEIGHBOR_STEPS))
