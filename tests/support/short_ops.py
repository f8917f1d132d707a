"""Settings and limits under which recovery tests and repairs of quick runs take a second."""

from __future__ import annotations

import pytest

from sf_tui.recovery import arms

# A repair of so few steps that the whole run still plays in seconds; scaled back, it has its effect
# also where none of them is better than none.
SHORT = (
    *("recover.steps=6", "diagnose.steps=6", "diagnose.time=0"),
    *("anchor.cache_size=64", "recover.interpolate=0.7"),
)
QUICK = (*SHORT, "train.steps=8", "diagnose.examples=4")


def shorten_arms(patch: pytest.MonkeyPatch) -> None:
    """Let a recovery test take few steps, where its verdict doesn't matter."""
    for name in ("EXAMPLES_STEPS", "REFERENCE_STEPS", "NEIGHBOR_SEARCH_STEPS"):
        patch.setattr(arms, name, 4)
    patch.setattr(arms, "REFERENCE_EVERY", 2)
