"""What a scheduler or a terminal may send a worker: stop soon, with everything saved."""

from __future__ import annotations

import signal
from types import FrameType


class StopSignals:
    """Remembers the first signal that asked the worker to stop.

    SIGTERM, SIGINT and SIGUSR1 (what SLURM sends ahead of a time limit) stop at the next step.
    SIGHUP, which a closing terminal sends, is ignored: no terminal may end a run.
    """

    def __init__(self) -> None:
        self.received: str | None = None

    def install(self) -> None:
        """Take the signals over; only the main thread may."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._remember)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _remember(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.received = self.received or signal.Signals(number).name
