"""How far an operation is, in words for the console, the log and the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sf_tui.tui.numbers import format_duration
from sf_tui.vocabulary.measured import format_number
from sf_tui.vocabulary.operation_events import OperationProgress

LINE_EVERY_S = 10.0
"""Seconds between two lines about the same part."""


class HowFar(Protocol):
    """The progress of a piece of work; an `operation` event has it, too."""

    @property
    def part(self) -> str:
        """What it is at."""

    @property
    def number(self) -> int:
        """Number of this part, from 1; 0 if it has none."""

    @property
    def parts(self) -> int:
        """Number of parts."""

    @property
    def done(self) -> int:
        """Steps or prompts done in this part."""

    @property
    def total(self) -> int:
        """Steps or prompts of this part at most; 0 if unknown."""

    @property
    def unit(self) -> str:
        """What `done` counts, in the plural."""

    @property
    def score(self) -> float | None:
        """The newest score; below 0 for a state that is not allowed."""

    @property
    def left_s(self) -> float | None:
        """Seconds left; None if unknown."""


def about(seconds: float) -> str:
    """Return an estimated duration in words."""
    return f"about {format_duration(max(round(seconds), 1))}"


def progress_parts(now: HowFar, passed_s: float = 0.0) -> list[str]:
    """Return the phrases of a progress, the most important first.

    Args:
        now: the progress.
        passed_s: seconds since then.
    """
    found: list[str] = []
    if now.left_s is not None:
        found.append(f"{about(max(now.left_s - passed_s, 0.0))} left")
    if now.part:
        found.append(f"{now.number} of {now.parts} {now.part}" if now.number else now.part)
    if now.total:
        found.append(f"{now.unit.removesuffix('s')} {now.done}/{now.total}")
    if now.score is not None and now.score >= 0:
        found.append(f"score {format_number(now.score)}")
    return found


def training_meanwhile(event: OperationProgress, *, paused: bool = False) -> str:
    """Return what training does while an operation is under way.

    Args:
        event: its progress.
        paused: whether the run is paused, which holds a test beside the training, too.
    """
    if paused and event.beside:
        return "held while the run is paused"
    return "training goes on" if event.beside else "training waits"


class ProgressLines:
    """Chooses the progress that is worth a line: each new part, and the same one now and then.

    Args:
        clock: returns the seconds at a progress.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._part = ""
        self._last_s = 0.0

    def line(self, now: HowFar) -> str:
        """Return the line of a progress; empty if it is not worth one."""
        at_s = self._clock()
        if now.part == self._part and at_s - self._last_s < LINE_EVERY_S:
            return ""
        self._part, self._last_s = now.part, at_s
        return ", ".join(progress_parts(now))

    def event_line(self, event: OperationProgress) -> str:
        """Return the line of an `operation` event; the first one says what training does."""
        line = self.line(event)
        return line if event.part else ", ".join(filter(None, (training_meanwhile(event), line)))
