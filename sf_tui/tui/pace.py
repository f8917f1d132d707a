"""How often what may be sent, so that a slow link keeps up and a still run sends nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

POLL_EVERY_S = 0.25
"""How often the logs are looked at; only what changed then costs anything."""
TEXT_EVERY_S = 1.0
CHART_EVERY_S = 2.0
SLOWER_WITH_LITE = 2.0
LIVENESS_EVERY_S = 1.0
RUN_LIST_EVERY_S = 10.0


@dataclass
class Pace:
    """Tells whether something is due, and remembers when it was done.

    Attributes:
        clock: seconds that only ever rise.
        slower: factor on all that is drawn.
    """

    clock: Callable[[], float]
    slower: float = 1.0
    _done: dict[str, float] = field(default_factory=dict)

    def is_due(self, what: str, every_s: float) -> bool:
        """Tell whether `what` was last done at least `every_s` ago; if so it counts as done now."""
        now = self.clock()
        last = self._done.get(what)
        # A tick comes a little early or late: a tenth of it is forgiven.
        if last is not None and now - last < every_s - POLL_EVERY_S / 10:
            return False
        self._done[what] = now
        return True

    def text_is_due(self) -> bool:
        """Tell whether panels of text may be sent."""
        return self.is_due("text", TEXT_EVERY_S * self.slower)

    def charts_are_due(self) -> bool:
        """Tell whether charts may be sent."""
        return self.is_due("charts", CHART_EVERY_S * self.slower)
