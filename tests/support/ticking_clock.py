"""A clock for benchmarks under which every piece of work takes what a test says."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sf_tui.bench.harness import Clock


@dataclass(frozen=True)
class TickingClock(Clock):
    """Moves on by the next of some seconds each time it is read, over and over again."""

    by_processor: bool = True
    seconds_between_readings: Iterable[float] = (1.0,)
    _ticks: Iterator[float] = field(init=False)

    def __post_init__(self) -> None:
        """Start at 0."""
        passed = itertools.accumulate(itertools.cycle(self.seconds_between_readings))
        object.__setattr__(self, "_ticks", passed)

    def now(self) -> float:
        """Return seconds since the start."""
        return next(self._ticks)
