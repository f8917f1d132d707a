"""A clock that doesn't advance while the work that it times is held. Doesn't know what holds it."""

from __future__ import annotations

import time
from collections.abc import Callable


class HeldClock:
    """Monotonic seconds without those during which the work was held.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._held_s = 0.0
        self._held_at_s: float | None = None

    def __call__(self) -> float:
        """Return the seconds; only differences have a meaning."""
        now_s = self._clock() if self._held_at_s is None else self._held_at_s
        return now_s - self._held_s

    def hold(self) -> None:
        """Stop the clock, unless it is held."""
        if self._held_at_s is None:
            self._held_at_s = self._clock()

    def go_on(self) -> None:
        """Let it run again, if it is held."""
        if self._held_at_s is not None:
            self._held_s += self._clock() - self._held_at_s
            self._held_at_s = None
