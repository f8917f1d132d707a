"""Distinguishes pressed keys from text that was pasted or typed for another program.

A terminal without bracketed paste sends a pasted word as keys, and a shell's `fg` typed too late is
two actions. Nobody presses two different keys of the console within a tenth of a second. Knows keys
and times; knows nothing of what a key does.
"""

from __future__ import annotations

BURST_S = 0.1
"""Different letters that come within this time of each other are text."""


class KeyBursts:
    """Follows the letters that arrive."""

    def __init__(self) -> None:
        self._last, self._at_s = "", float("-inf")
        self._is_burst = False

    def is_text(self, key: str, at_s: float) -> bool:
        """Record a letter and return whether it belongs to a text.

        The same letter again is a key that is held down.

        Args:
            key: the letter.
            at_s: monotonic time of its arrival in seconds.
        """
        self._is_burst = self.goes_on(at_s) or (at_s - self._at_s < BURST_S and key != self._last)
        self._last, self._at_s = key, at_s
        return self._is_burst

    def goes_on(self, at_s: float) -> bool:
        """Return whether a text was arriving until just now, which a line end belongs to."""
        return self._is_burst and at_s - self._at_s < BURST_S
