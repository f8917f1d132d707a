"""The rule itself, on intervals given by hand."""

from __future__ import annotations

import pytest

from sf_tui.diagnosis.bootstrap import RecoveryEstimates
from sf_tui.diagnosis.intervals import Estimate
from sf_tui.diagnosis.judging import judge

NO_LOSS = Estimate(0.01, -0.01, 0.03)
LOSS = Estimate(0.6, 0.5, 0.7)


def figures(
    recovered: tuple[float, float, float] | None = None,
    share: tuple[float, float, float] | None = None,
    drop: Estimate | None = LOSS,
    start: float | None = 1.0,
) -> RecoveryEstimates:
    """Return estimates that hold what the rule looks at."""
    return RecoveryEstimates(
        examples=100,
        now=Estimate(0.4, 0.3, 0.5),
        start=None if start is None else Estimate(start, start - 0.1, start),
        drop=drop,
        recovered=Estimate(*recovered) if recovered else None,
        gain=None,
        spurious_share=Estimate(*share) if share else None,
        real_share=None,
    )


@pytest.mark.parametrize(
    ("estimates", "verdict", "closed"),
    [
        # No drop, whatever the recovery says.
        (figures((0.1, 0.0, 0.2), (0.0, 0.0, 0.1), drop=NO_LOSS), "none", True),
        (figures(drop=Estimate(0.05, 0.0, 0.101)), "none", False),
        (figures(drop=Estimate(-0.05, -0.09, -0.01)), "none", True),
        # "At most a tenth" is a tenth of the start.
        (figures(drop=Estimate(0.02, -0.01, 0.06), start=0.7), "none", True),
        (figures(drop=Estimate(0.02, -0.01, 0.06), start=0.5), "none", False),
        # A drop and nothing to tell what became of it.
        (figures(), "inconclusive", False),
        (figures((0.98, 0.95, 1.0), (0.9, 0.8, 1.0), None, None), "inconclusive", False),
        # At the bounds.
        (figures((0.95, 0.90, 0.98), (0.9, 0.8, 0.96)), "spurious", True),
        (figures((0.95, 0.899, 0.98), (0.9, 0.8, 0.96)), "inconclusive", False),
        (figures((0.60, 0.54, 0.66), (0.9, 0.8, 1.0), start=0.6), "spurious", True),
        (figures((0.45, 0.40, 0.52), (0.1, 0.0, 0.249)), "real", True),
        (figures((0.45, 0.40, 0.52), (0.1, 0.0, 0.25)), "inconclusive", False),
        # Between.
        (figures((0.7, 0.6, 0.8), (0.5, 0.4, 0.6)), "partial", True),
        (figures((0.7, 0.6, 0.8), (0.5, 0.25, 0.75)), "partial", True),
        (figures((0.85, 0.78, 0.91), (0.75, 0.6, 0.85)), "partial", False),
        (figures((0.55, 0.5, 0.6), (0.3, 0.2, 0.4)), "partial", False),
        # Too wide: over 0.5; both readings; a middle that the ends don't bear out.
        (figures((0.7, 0.6, 0.85), (0.5, 0.25, 0.76)), "inconclusive", False),
        (figures((0.8, 0.7, 0.92), (0.5, 0.24, 0.7)), "inconclusive", False),
        (figures((0.92, 0.85, 0.95), (0.86, 0.75, 0.92)), "inconclusive", False),
        (figures((0.54, 0.48, 0.6), (0.24, 0.15, 0.35)), "inconclusive", False),
        # A small drop of which nothing came back: by the rule still known, but not closed.
        (
            figures((0.94, 0.92, 0.96), (0.0, 0.0, 0.1), Estimate(0.06, 0.04, 0.08)),
            "spurious",
            False,
        ),
        # Nothing came back, and yet 0.9 of the start may be there.
        (
            figures((0.90, 0.88, 0.92), (0.0, 0.0, 0.1), Estimate(0.1, 0.08, 0.12)),
            "real",
            False,
        ),
    ],
)
def test_verdict_by_the_rule(estimates: RecoveryEstimates, verdict: str, closed: bool) -> None:
    assert judge(estimates) == (verdict, closed)
