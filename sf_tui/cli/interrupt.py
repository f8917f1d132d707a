"""An interrupt by Ctrl-C, remembered: Python and libraries may lose the exception that it raises.

One that is raised while a generator is closed is printed and gone; one raised inside a library's
own error handling may come out as another error. Whoever is at work for long asks again.
"""

from __future__ import annotations

import signal
from types import FrameType

INTERRUPTED = 130
"""Exit code: 128 and the number of SIGINT, as shells have it."""


class Interrupt:
    """Raises KeyboardInterrupt as Python does by itself, and knows that it did.

    Attributes:
        came: whether the user has interrupted the command.
    """

    def __init__(self) -> None:
        self.came = False

    def heed(self) -> None:
        """Take the signal over; a command that was started to ignore it still does."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._raise)

    def check(self) -> None:
        """Do what an interrupt that came and was lost asked for.

        Raises:
            KeyboardInterrupt: the user has interrupted the command.
        """
        if self.came:
            raise KeyboardInterrupt

    def _raise(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.came = True
        raise KeyboardInterrupt


INTERRUPT = Interrupt()
"""Of this process: signals are a process's own."""
