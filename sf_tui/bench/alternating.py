"""Two pieces of work side by side in one process, a leg each in turn, every leg timed.

Whatever else the machine does falls on both sides alike, so comparisons of neighboring legs hold
where two runs one after the other would not. Knows nothing of what the legs do.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Sequence
from itertools import cycle

from sf_tui.bench.clock import Reading, read_clocks

PassOn = Callable[[], None]
Side = Callable[[PassOn], None]
"""Work that calls what it is given at the end of each leg."""

# A, B, B, A: neither side always comes first, and a drift of the machine's speed cancels out.
_ORDER = (0, 1, 1, 0)


class _SideStoppedError(Exception):
    """The other side failed, so this one has nothing to run against."""


class _Relay:
    """Whose turn it is, and how long each leg took."""

    def __init__(self, clocks: Callable[[], Reading]) -> None:
        self.legs: tuple[list[Reading], list[Reading]] = ([], [])
        self.failure: BaseException | None = None
        self._clocks = clocks
        self._changed = threading.Condition()
        self._order = cycle(_ORDER)
        self._turn = next(self._order)
        self._finished = [False, False]
        self._since = clocks()

    def run(self, side: Side, number: int) -> None:
        """Be one side's thread."""
        try:
            self._wait_for_turn(number)
            side(lambda: self._pass_on(number))
        except _SideStoppedError:
            return
        except BaseException as error:
            self.failure = self.failure or error
        finally:
            with self._changed:
                self._finished[number] = True
                self._turn = 1 - number
                self._changed.notify_all()

    def _pass_on(self, number: int) -> None:
        self.legs[number].append(self._clocks().since(self._since))
        with self._changed:
            self._turn = next(self._order)
            if self._finished[self._turn]:
                self._turn = number
            self._changed.notify_all()
        self._wait_for_turn(number)

    def _wait_for_turn(self, number: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._turn == number or self.failure is not None)
        if self.failure is not None:
            raise _SideStoppedError
        self._since = self._clocks()


def alternate(
    first: Side, second: Side, clocks: Callable[[], Reading] = read_clocks
) -> tuple[list[Reading], list[Reading]]:
    """Run two sides a leg at a time, never both at once, and return how long each leg took.

    Args:
        first: called in a thread of its own with a function to call at the end of each leg.
        second: likewise; the leg after the last call is not timed.
        clocks: what tells the time.

    Returns:
        What each side's legs took. The first leg holds the side's preparations.

    Raises:
        BaseException: whatever either side raised; the other one is stopped at its next leg.
    """
    relay = _Relay(clocks)
    threads = [
        threading.Thread(target=relay.run, args=(side, number), daemon=True)
        for number, side in enumerate((first, second))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if relay.failure is not None:
        raise relay.failure
    return relay.legs


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios of neighboring legs."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
