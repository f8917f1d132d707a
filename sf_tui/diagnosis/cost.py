"""What a recovery test costs, beside what it may save: tuning the old task or everything anew.

Time of what was not run is reckoned from its tokens at the pace of the test, on the same machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sf_tui.diagnosis.json_numbers import rounded
from sf_tui.vocabulary.event_records import CostEntry, DiagnosisCost

_SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Cost:
    """What one piece of tuning takes."""

    tokens: int
    seconds: float | None
    """None where it was not run and no pace is known."""
    money: float | None
    """In the currency of the price; None without a price or without seconds."""

    def rounded(self, share: float | None = None) -> CostEntry:
        """Return it as an event carries it, with a share of it if given."""
        return CostEntry(self.tokens, rounded(self.seconds), rounded(self.money), rounded(share))


@dataclass(frozen=True)
class CostComparison:
    """The cost of the test, and of what it is an alternative to."""

    test: Cost
    old_task: Cost | None
    """Tuning the old task anew; None where its tokens are unknown."""
    recipe: Cost | None
    """All stages from the first on; None where their tokens are unknown."""
    tokens_per_second: float | None
    """The pace that their seconds are reckoned with."""

    def rounded(self) -> DiagnosisCost:
        """Return the test's own figures and below them the others', as an event carries them.

        `share` is the test's tokens as a share of the other's.
        """
        return DiagnosisCost(
            tokens=self.test.tokens,
            seconds=rounded(self.test.seconds),
            money=rounded(self.test.money),
            tokens_per_second=rounded(self.tokens_per_second),
            old_task=self._beside(self.old_task),
            recipe=self._beside(self.recipe),
        )

    def _beside(self, other: Cost | None) -> CostEntry | None:
        if other is None:
            return None
        return other.rounded(self.test.tokens / other.tokens if other.tokens else None)


def compare_costs(
    *,
    seconds: float,
    tokens: int,
    tokens_per_second: float | None = None,
    gpu_hour: float | None = None,
    old_task_tokens: int | None = None,
    recipe_tokens: int | None = None,
) -> CostComparison:
    """Return the cost of a recovery test beside that of tuning anew.

    Args:
        seconds: wall time of the whole test, all arms.
        tokens: tokens that it passed through the model.
        tokens_per_second: pace of its training steps alone; default tokens / seconds, which also
            counts loading and scoring and so makes the others look slower.
        gpu_hour: price of an hour.
        old_task_tokens: tokens of tuning the old task anew.
        recipe_tokens: tokens of all stages.

    Raises ValueError for a figure that is negative or not finite.
    """
    given = (seconds, tokens, tokens_per_second, gpu_hour, old_task_tokens, recipe_tokens)
    if not all(figure is None or (math.isfinite(figure) and figure >= 0) for figure in given):
        raise ValueError("seconds, tokens, pace and price are at least 0")
    pace = tokens_per_second or (tokens / seconds if seconds > 0 and tokens else None)

    def cost_of(tokens: int, seconds: float | None) -> Cost:
        if seconds is None or gpu_hour is None:
            return Cost(tokens, seconds, None)
        return Cost(tokens, seconds, seconds * gpu_hour / _SECONDS_AN_HOUR)

    def cost_anew(tokens: int | None) -> Cost | None:
        return None if tokens is None else cost_of(tokens, tokens / pace if pace else None)

    return CostComparison(
        test=cost_of(tokens, seconds),
        old_task=cost_anew(old_task_tokens),
        recipe=cost_anew(recipe_tokens),
        tokens_per_second=pace,
    )
