"""Pinned runs: up to four whose curves lie over those of the run that the console shows.

Reads their logs; draws nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sf_tui.run.directory import RunDirectory
from sf_tui.tui.feed import RunFeed
from sf_tui.tui.live_state import LiveState, StageCurves
from sf_tui.tui.series import Bucket, MinMaxSeries

MOST_PINNED = 4
_HISTORY_SLICE_S = 0.02


@dataclass
class Pin:
    """A pinned run.

    Attributes:
        sign: the mark on its curves, a digit.
        feed: follows its log.
    """

    sign: str
    feed: RunFeed

    @property
    def run(self) -> RunDirectory:
        """The run."""
        return self.feed.run

    @property
    def live(self) -> LiveState:
        """Its newest state, with its curves."""
        return self.feed.live


class PinnedRuns:
    """The runs that are pinned, in the order of their signs."""

    def __init__(self) -> None:
        self._pins: list[Pin] = []

    def __iter__(self) -> Iterator[Pin]:
        return iter(self._pins)

    def __len__(self) -> int:
        return len(self._pins)

    def sign_of(self, run: RunDirectory) -> str:
        """Return the sign of a pinned run; empty for another one."""
        return next((pin.sign for pin in self._pins if pin.run.path == run.path), "")

    def toggle(self, run: RunDirectory) -> str:
        """Pin or unpin a run; return why that can't be done, empty if it was."""
        if self.sign_of(run):
            self._pins = [pin for pin in self._pins if pin.run.path != run.path]
            return ""
        if len(self._pins) == MOST_PINNED:
            return f"{MOST_PINNED} runs are pinned already; unpin one first"
        taken = {pin.sign for pin in self._pins}
        sign = next(str(n) for n in range(1, MOST_PINNED + 1) if str(n) not in taken)
        self._pins.append(Pin(sign, RunFeed(run)))
        self._pins.sort(key=lambda pin: pin.sign)
        return ""

    def clear(self) -> None:
        """Unpin all."""
        self._pins = []

    def poll(self) -> bool:
        """Read what the pinned runs have written; return whether there is anything new."""
        changed = False
        for pin in self._pins:
            if pin.feed.progress is not None:
                changed = True
                pin.feed.read_history(_HISTORY_SLICE_S)
            changed = pin.feed.poll() or changed
        return changed


class ClippedSeries(MinMaxSeries):
    """A series without the points after a step, sharing the points of another one.

    Args:
        series: the whole series.
        limit: last step.
    """

    def __init__(self, series: MinMaxSeries, limit: int) -> None:
        self.__dict__.update(series.__dict__)
        self._limit = limit

    def buckets(self, start: int, end: int) -> Iterator[Bucket]:
        """Yield the buckets of a range of steps."""
        yield from super().buckets(start, min(end, self._limit))


def aligned_stages(pin: LiveState, shown: LiveState) -> list[tuple[int, StageCurves, int | None]]:
    """Place a pinned run's stages on the step axis of the shown run.

    A stage lies over the stage of the same name, step by step. If no name is shared, the whole runs
    lie over each other from their first steps.

    Args:
        pin: state of the pinned run.
        shown: state of the shown run.

    Returns:
        The shown run's global step of a stage's step 0, the stage, and its last step that is drawn
        (None: all), so that a longer stage does not reach into the next one.
    """
    ours, theirs = shown.curves, pin.curves
    shared = [name for name in theirs.stages if name in ours.stages]
    if not shared:
        return [(theirs.offset(name), stage, None) for name, stage in theirs.stages.items()]
    last = list(ours.stages)[-1]
    return [
        (
            ours.offset(name),
            theirs.stages[name],
            None if name == last else ours.stages[name].steps,
        )
        for name in shared
    ]
