"""The rule that makes a verdict of the figures of a recovery test.

Sees intervals only; which arm they come from and how it is told are decided elsewhere.
"""

from __future__ import annotations

from typing import Literal, get_args

from sf_tui.diagnosis.bootstrap import RecoveryEstimates
from sf_tui.diagnosis.intervals import TOLERANCE, Estimate

VerdictName = Literal["none", "spurious", "partial", "real", "inconclusive"]
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)

SPURIOUS_OF_START = 0.9
"""The share of the start's accuracy that a recovery must reach for *spurious*."""
REAL_BELOW = 0.25
"""The spurious share below which the loss is *real*."""
TOO_WIDE = 0.5
"""An interval of the spurious share wider than this says nothing."""


def judge(estimates: RecoveryEstimates) -> tuple[VerdictName, bool]:
    """Return the verdict, and whether the intervals close it.

    The first that holds:

    - `inconclusive` without a known start: how much was lost can't be told, so neither can whether
      it came back. Not even now = recovered says *none*: it is as well what a real loss looks like.
    - `none`: the drop's interval includes 0, or lies below it.
    - `inconclusive` without a recovery.
    - `spurious`: the lower end of recovered is at least 0.9 of the start.
    - `real`: the upper end of the spurious share is under 0.25.
    - `inconclusive`: the interval is too wide to say. It is when it holds both a real reading
      (spurious share under 0.25) and a spurious one (recovered at least 0.9 of the start); when it
      is wider than 0.5; or when its own middle is a real or a spurious reading that its ends don't
      bear out: five of five recovered is no evidence that something is missing.
    - `partial`.

    The start counts with its value, not its interval. The verdict is closed when the intervals shut
    out the others beside it: *none*, when no more than a tenth of the start can have been lost;
    *spurious*, when the spurious share is at least 0.25 (of a small drop nothing may have come
    back, and yet 0.9 of the start be there); *real*, when recovered stays under 0.9 of the start;
    *partial*, when both do. `inconclusive` is never closed.
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
