"""The time that benchmarks count in.

On one CPU thread that is the processor's own: alone on a machine both are the same, and beside
other work only the processor's time says what a run costs. Otherwise it is the wall's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Reading(NamedTuple):
    """Both clocks at one moment, or what has passed on both since another; in seconds."""

    wall: float
    processor: float
    """Of all threads of this process together."""

    def since(self, before: Reading) -> Reading:
        """Return what has passed since an earlier reading."""
        return Reading(self.wall - before.wall, self.processor - before.processor)


def read_clocks() -> Reading:
    """Return both clocks now."""
    return Reading(time.perf_counter(), time.process_time())


@dataclass(frozen=True)
class Clock:
    """Which of the two counts."""

    by_processor: bool

    @classmethod
    def for_device(cls, device_type: str, threads: int) -> Clock:
        """Choose the clock for a device (`cpu`, `cuda`, …) and a number of CPU threads."""
        return cls(device_type == "cpu" and threads == 1)

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return "processor" if self.by_processor else "wall"

    def seconds(self, readings: Sequence[Reading]) -> list[float]:
        """Return what counts of each reading."""
        return [one.processor if self.by_processor else one.wall for one in readings]

    def now(self) -> float:
        """Return seconds since some moment."""
        return time.process_time() if self.by_processor else time.perf_counter()
