"""The size of the terminal as it is, for Textual's driver.

Textual asks COLUMNS and LINES first and then stdout. Exported by a shell or a batch script they
would keep the console at one size however the terminal is resized, and with stdout in a pipe it
would be taken for 80x24. The console draws on stderr, so the terminal there is asked. Knows
descriptors; knows nothing of panels.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from textual.drivers.linux_driver import LinuxDriver


class TerminalDriver(LinuxDriver):
    """Textual's driver, with the size of the terminal that is drawn on."""

    def _get_terminal_size(self) -> tuple[int, int]:
        """Return columns and rows; what Textual knows if the terminal does not tell."""
        # Textual puts its own object in the place of sys.stderr.
        if sys.__stderr__ is not None:
            with suppress(OSError):
                size = os.get_terminal_size(sys.__stderr__.fileno())
                # A serial line or a bare pseudo-terminal has 0x0.
                if size.columns and size.lines:
                    return size.columns, size.lines
        return super()._get_terminal_size()
