"""How many held-out examples a verdict and a probe need; derived from the rules, not chosen.

Sees figures only.
"""

from __future__ import annotations

from sf_tui.diagnosis.rules import SPURIOUS_OF_START
from sf_tui.vocabulary.intervals import wilson_estimate


def fewest_for_spurious(wrong: int = 0) -> int:
    """Return the fewest held-out examples with which a recovery can be called *spurious*.

    The rule wants the lower end of the recovered accuracy at 0.9 of the start. The start is taken
    as 1.0: an old task that the model does well.

    Args:
        wrong: number of examples that are still wrong after the recovery.
    """
    examples = wrong + 1
    while wilson_estimate(examples - wrong, examples).low < SPURIOUS_OF_START:
        examples += 1
    return examples
