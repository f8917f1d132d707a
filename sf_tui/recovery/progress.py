"""How far a recovery test, a repair or the questions to a start model are.

Knows no events and no terminal: the caller passes a function that takes a `Progress`, and an
exception from it ends the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

STEPS, PROMPTS = "steps", "prompts"
"""What is counted."""

_TIMED_STEPS = 5
"""Steps before which their speed says little: the first ones are slower."""


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is.

    Attributes:
        part: what it is at, such as the name of an arm.
        number: number of this part, from 1; 0 outside the numbered parts.
        parts: number of parts; 0 if unknown.
        done: steps or prompts done in this part.
        total: steps or prompts of this part at most; 0 if unknown.
        unit: what `done` counts.
        score: the newest score that chooses the best step; None before the first.
        left_s: wall time left, in seconds; None if unknown.
    """

    part: str
    number: int = 0
    parts: int = 0
    done: int = 0
    total: int = 0
    unit: str = STEPS
    score: float | None = None
    left_s: float | None = None


Report = Callable[[Progress], None]
"""Receives the progress after each step and each pass; an exception from it ends the work."""


@dataclass(frozen=True)
class TuningStep:
    """A step of a short tuning.

    Attributes:
        step: its number, from 1.
        steps: most steps of this tuning.
        score: the newest score; None before the first.
    """

    step: int
    steps: int
    score: float | None


OnStep = Callable[[TuningStep], None]


class PartProgress:
    """Turns the steps of short tunings into the progress of parts.

    Args:
        report: receives the progress.
        clock: monotonic seconds.
    """

    def __init__(self, report: Report, clock: Callable[[], float] = time.perf_counter) -> None:
        self._report = report
        self._clock = clock
        self._now = Progress("")
        self._left_later = 0
        """Steps of the parts after this one."""
        self._begun_s = 0.0
        self._stepped = 0

    def begin(
        self, part: str, total: int = 0, *, number: int = 0, parts: int = 0, later: int = 0
    ) -> None:
        """Begin a part.

        Args:
            part: what it is called.
            total: its steps at most; 0 if unknown.
            number: its number, from 1; 0 if it has none.
            parts: number of parts; 0 if unknown.
            later: steps of the parts after it.
        """
        if number <= 1:
            self._begun_s, self._stepped = self._clock(), 0
        self._left_later = later
        self._now = Progress(part, number, parts, total=total)
        self.tick()

    def tick(self) -> None:
        """Report again, between two steps."""
        self._report(replace(self._now, left_s=self._left_s()))

    def step(self, step: TuningStep) -> None:
        """Count a step of the part; it may consist of several tunings."""
        self._stepped += 1
        now = self._now
        score = step.score if step.score is not None else now.score
        total = now.total or step.steps
        self._now = replace(now, done=min(now.done + 1, total), total=total, score=score)
        self.tick()

    def _left_s(self) -> float | None:
        if self._stepped < _TIMED_STEPS:
            return None
        a_step = (self._clock() - self._begun_s) / self._stepped
        return a_step * (self._now.total - self._now.done + self._left_later)
