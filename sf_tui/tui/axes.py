"""Axes of a chart: the position of a value or step, and the numbers beside the axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LARGEST_FACTOR = 1e12
"""Largest ratio of the two ends of a logarithmic axis; a loss of float32 keeps within it."""


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` onto dots.

    Attributes:
        low: value at one end.
        high: value at the other end, above `low`.
        log: logarithmic; both ends are above 0.
    """

    low: float
    high: float
    log: bool = False

    def is_below(self, value: float) -> bool:
        """Return whether a value lies below a logarithmic axis, as zeros do."""
        return self.log and value < self.low

    def share(self, value: float) -> float:
        """Return a value's position between the ends, in [0, 1], clipped."""
        low, high = self.low, self.high
        if self.log:
            value = math.log10(max(value, low))
            low, high = math.log10(low), math.log10(high)
        if high <= low:
            return 0.5
        return min(max((value - low) / (high - low), 0.0), 1.0)


def nice_step(span: float, most: int) -> float:
    """Return 1, 2 or 5 times a power of ten that divides `span` into at most `most` parts."""
    rough = span / max(most, 1)
    if rough <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1, 2, 5, 10):
        if factor * power >= rough * 0.999999:
            return factor * power
    return 10 * power


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers from `low` to `high`, at most `most` + 1 of them."""
    if high <= low:
        return [low]
    step = nice_step(high - low, most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def step_ticks(low: int, high: int, most: int) -> list[int]:
    """Return round whole steps from `low` to `high`."""
    if high <= low:
        return [low]
    step = max(nice_step(high - low, most), 1.0)
    whole = int(step)
    return list(range(-(-low // whole) * whole, high + 1, whole))


def loss_scale(values: Sequence[tuple[float, float]], log: bool) -> Scale:
    """Return a scale that covers all (lowest, highest) pairs, with round ends.

    Round ends keep the whole chart from moving with every new extreme. A logarithmic scale begins
    at the lowest value above 0: its pairs must not be those of zeros (`positive_extremes`).
    """
    lows = [low for low, _ in values]
    highs = [high for _, high in values]
    if not highs:
        return Scale(0.1, 1.0, log=True) if log else Scale(0.0, 1.0)
    if log:
        positive = [low for low in lows if low > 0] or [high for high in highs if high > 0]
        floor = min(positive, default=0.1)
        ceiling = max(max(highs), floor * 10)
        # One denormal value must not squeeze all others; the chart marks what is below the axis.
        floor = max(floor, ceiling / _LARGEST_FACTOR)
        return Scale(
            10.0 ** math.floor(math.log10(floor)), _end_above(ceiling, (1, 2, 5, 10)), log=True
        )
    low = min(0.0, min(lows))
    ends = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
    return Scale(low if low == 0 else -_end_above(-low, ends), _end_above(max(highs), ends))


def log_ticks(scale: Scale, most: int = 16) -> list[float]:
    """Return the powers of ten within a logarithmic scale, evenly thinned to at most `most`."""
    first = math.ceil(math.log10(scale.low) - 1e-9)
    last = math.floor(math.log10(scale.high) + 1e-9)
    every = max(-(-(last - first + 1) // max(most, 1)), 1)
    return [10.0**power for power in range(last, first - 1, -every)][::-1]


def round_up(value: float) -> int:
    """Return the next round whole number, for the end of a step axis."""
    return math.ceil(_end_above(value, (1, 1.5, 2, 3, 4, 5, 6, 8, 10)))


def _end_above(value: float, factors: Sequence[float]) -> float:
    """Return the smallest of the factors times a power of ten that is at least `value`."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        (factor * power for factor in factors if factor * power >= value * 0.999999), 10 * power
    )


def tick_label(value: float) -> str:
    """Return a tick's number in at most four characters, five below 1e-9."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 10_000 or size < 0.01:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    if size >= 1000:
        return f"{value / 1000:g}k"
    return f"{value:.3g}"


def step_label(step: int) -> str:
    """Return a step's number, short enough for an axis."""
    if step >= 1_000_000:
        return f"{step / 1_000_000:g}M"
    if step >= 10_000 and step % 100 == 0:
        return f"{step / 1000:g}k"
    return str(step)
