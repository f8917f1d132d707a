"""A curve of any length in bounded memory that never loses a single point's extreme.

`DriftTrack` is the same for the drift of all layers. Knows nothing of stages or terminals.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sf_tui.vocabulary.declared import LayerDrift
from sf_tui.vocabulary.events import Drift

NO_POSITIVE = float("inf")
DRIFT_SNAPSHOTS = 256
"""Drift measurements kept per stage; when full, every other one is dropped."""
CAPACITY = 2048
"""Most buckets of a curve: more than any terminal has columns of dots."""
EXACT_HEAD = 512
"""Points kept exactly at a curve's start, which covers the danger window (150 steps)."""
EXACT_TAIL = 1024
"""Newest points kept exactly, so that a rewind can cut at any of them."""


class Bucket(NamedTuple):
    """The points of one range of steps.

    `x` is the last step with a point; `first` and `last` are values in order of arrival. `positive`
    is the lowest value above 0, for logarithmic axes; infinite without one.
    """

    x: int
    low: float
    high: float
    first: float
    last: float
    positive: float = NO_POSITIVE


class MinMaxSeries:
    """Values over rising steps, decimated to `capacity` buckets that keep minimum and maximum.

    The first `EXACT_HEAD` points are also kept exactly, for a close look at any length of curve.

    Attributes:
        width: steps per bucket; 1 until the buckets are full, then doubling.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        if capacity < 2:
            raise ValueError("a series needs room for two buckets")
        self.capacity = capacity
        self.width = 1
        self._x = array("q")
        self._low = array("d")
        self._high = array("d")
        self._first = array("d")
        self._last = array("d")
        self._positive = array("d")
        self._head_x = array("q")
        self._head_y = array("d")
        self._tail_x = array("q")
        self._tail_y = array("d")
        self._tail_is_all = True

    def __len__(self) -> int:
        return len(self._x)

    @property
    def last_x(self) -> int | None:
        """The newest step, or None while there is no point."""
        return self._x[-1] if self._x else None

    @property
    def last_value(self) -> float | None:
        """The newest value, or None while there is no point."""
        return self._last[-1] if self._last else None

    def add(self, x: int, y: float) -> None:
        """Add one point, after dropping every point at or after its step.

        Args:
            x: step, 0 or more.
            y: finite value.
        """
        if self._x and x <= self._x[-1]:
            self.truncate(x - 1)
        if len(self._head_x) < EXACT_HEAD:
            self._head_x.append(x)
            self._head_y.append(y)
        self._tail_x.append(x)
        self._tail_y.append(y)
        if len(self._tail_x) >= 2 * EXACT_TAIL:
            del self._tail_x[:-EXACT_TAIL]
            del self._tail_y[:-EXACT_TAIL]
            self._tail_is_all = False
        self._put(x, y)

    def _put(self, x: int, y: float) -> None:
        if self._x and self._x[-1] // self.width == x // self.width:
            self._x[-1] = x
            if y < self._low[-1]:
                self._low[-1] = y
            if y > self._high[-1]:
                self._high[-1] = y
            self._last[-1] = y
            self._positive[-1] = min(self._positive[-1], _positive(y))
            return
        self._x.append(x)
        self._low.append(y)
        self._high.append(y)
        self._first.append(y)
        self._last.append(y)
        self._positive.append(_positive(y))
        while len(self._x) > self.capacity:
            self._halve()

    def truncate(self, x: int) -> None:
        """Drop every point after step `x`.

        The bucket that `x` cuts is rebuilt from the exactly kept points. A cut outside of those
        keeps the bucket's extremes.
        """
        keep = bisect_right(self._x, x)
        if keep == len(self._x):
            return
        start = x // self.width * self.width
        kept = self._kept_one_by_one(start, x)
        is_cut = self._x[keep] // self.width == x // self.width
        stale = (self._low[keep], self._high[keep], self._first[keep], self._positive[keep])
        columns = (self._x, self._low, self._high, self._first, self._last, self._positive)
        for column in columns:
            del column[keep:]
        for steps, values in ((self._head_x, self._head_y), (self._tail_x, self._tail_y)):
            index = bisect_right(steps, x)
            del steps[index:], values[index:]
        self._tail_is_all = self._tail_is_all and bool(self._tail_x)
        if not is_cut:
            return
        if kept is not None:
            for step, value in kept:
                self._put(step, value)
            return
        low, high, first, positive = stale
        self._x.append(x)
        self._low.append(low)
        self._high.append(high)
        self._first.append(first)
        self._last.append(first)
        self._positive.append(positive)

    def _kept_one_by_one(self, start: int, end: int) -> list[tuple[int, float]] | None:
        """Return every point from `start` to `end`; None if they are not kept exactly."""
        if self._head_x and end <= self._head_x[-1]:
            steps, values = self._head_x, self._head_y
        elif self._tail_is_all or (self._tail_x and self._tail_x[0] <= start):
            steps, values = self._tail_x, self._tail_y
        else:
            return None
        first, behind = bisect_left(steps, start), bisect_right(steps, end)
        return list(zip(steps[first:behind], values[first:behind], strict=True))

    def buckets(self, start: int, end: int) -> Iterator[Bucket]:
        """Yield the buckets between two steps (inclusive); single points within the exact head."""
        if self.width > 1 and self._head_x and end <= self._head_x[-1]:
            for index in range(bisect_left(self._head_x, start), bisect_right(self._head_x, end)):
                y = self._head_y[index]
                yield Bucket(self._head_x[index], y, y, y, y, _positive(y))
            return
        for index in range(bisect_left(self._x, start), len(self._x)):
            if self._x[index] > end and self._x[index] // self.width * self.width > end:
                return
            yield Bucket(
                self._x[index],
                self._low[index],
                self._high[index],
                self._first[index],
                self._last[index],
                self._positive[index],
            )

    def value_at(self, x: int) -> float | None:
        """Return the newest value at or before step `x`, or None before the first point."""
        if self._head_x and (x < self._head_x[-1] or self.width > 1):
            index = bisect_right(self._head_x, x) - 1
            if index < 0:
                return None
            if x <= self._head_x[-1]:
                return self._head_y[index]
        index = bisect_right(self._x, x) - 1
        return self._last[index] if index >= 0 else None

    def step_before(self, x: int) -> int | None:
        """Return the newest step before `x` that has a point."""
        source = self._head_x if self._head_x and x <= self._head_x[-1] else self._x
        index = bisect_left(source, x) - 1
        return source[index] if index >= 0 else None

    def step_after(self, x: int) -> int | None:
        """Return the oldest step after `x` that has a point."""
        source = self._head_x if self._head_x and x < self._head_x[-1] else self._x
        index = bisect_right(source, x)
        return source[index] if index < len(source) else None

    def extremes(self, start: int, end: int) -> tuple[float, float] | None:
        """Return the lowest and the highest value between two steps, or None without a point."""
        low, high = float("inf"), float("-inf")
        for bucket in self.buckets(start, end):
            low, high = min(low, bucket.low), max(high, bucket.high)
        return (low, high) if low <= high else None

    def positive_extremes(self, start: int, end: int) -> tuple[float, float] | None:
        """Return the lowest and highest value above 0 between two steps, or None without one."""
        low, high = NO_POSITIVE, 0.0
        for bucket in self.buckets(start, end):
            low, high = min(low, bucket.positive), max(high, bucket.high)
        return (low, high) if low <= high else None

    def _halve(self) -> None:
        """Double the bucket width and merge neighboring buckets."""
        self.width *= 2
        x, low, high = array("q"), array("d"), array("d")
        first, last, positive = array("d"), array("d"), array("d")
        for index, step in enumerate(self._x):
            if x and x[-1] // self.width == step // self.width:
                x[-1] = step
                low[-1] = min(low[-1], self._low[index])
                high[-1] = max(high[-1], self._high[index])
                last[-1] = self._last[index]
                positive[-1] = min(positive[-1], self._positive[index])
            else:
                x.append(step)
                low.append(self._low[index])
                high.append(self._high[index])
                first.append(self._first[index])
                last.append(self._last[index])
                positive.append(self._positive[index])
        self._x, self._low, self._high, self._first, self._last = x, low, high, first, last
        self._positive = positive


def _positive(y: float) -> float:
    return y if y > 0 else NO_POSITIVE


@dataclass
class DriftTrack:
    """The drift measurements of one stage, thinned evenly beyond the limit."""

    snapshots: list[Drift] = field(default_factory=list)
    latest: Drift | None = None
    _every: int = 1
    _seen: int = 0

    def add(self, measured: Drift) -> None:
        """Add one measurement."""
        self.latest = measured
        if self._seen % self._every == 0:
            self.snapshots.append(self.latest)
        self._seen += 1
        if len(self.snapshots) > DRIFT_SNAPSHOTS:
            del self.snapshots[1::2]
            self._every *= 2

    def truncate(self, step: int) -> None:
        """Drop everything after `step`."""
        self.snapshots = [entry for entry in self.snapshots if entry.step <= step]
        if self.latest is not None and self.latest.step > step:
            self.latest = self.snapshots[-1] if self.snapshots else None

    def at(self, step: int | None) -> Sequence[LayerDrift]:
        """Return the layers as last measured at or before `step` (None: the newest)."""
        if self.latest is None:
            return ()
        if step is None or step >= self.latest.step:
            return self.latest.layers
        found: Sequence[LayerDrift] = ()
        for measured in self.snapshots:
            if measured.step > step:
                break
            found = measured.layers
        return found
