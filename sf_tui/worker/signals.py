"""What a scheduler or a terminal may send a worker: stop soon, with everything saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# A library may swallow an exception that is raised inside its own error handling, so it is raised
# again and again until the preparation ends.
_AGAIN_S = 0.5


class PreparationStopped(BaseException):
    """A signal came while the run was being prepared; no `except Exception` may take it."""


class StopSignals:
    """Remembers the first signal that asked the worker to stop.

    SIGTERM, SIGINT and SIGUSR1 (what SLURM sends ahead of a time limit) stop at the next step.
    SIGHUP, which a closing terminal sends, is ignored: no terminal may end a run.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._preparing = False

    @contextmanager
    def ending_preparation(self) -> Iterator[None]:
        """Let a signal end what is done inside at once: nothing in it has to be saved.

        Raises:
            PreparationStopped: a signal came, inside or earlier.
        """
        try:
            self._preparing = True
            if self.received is not None:
                raise PreparationStopped
            yield
        except Exception as error:
            if self.received is None:
                raise
            # Whatever a library made of the signal.
            raise PreparationStopped from error
        finally:
            self._preparing = False
            if self.received is not None and signal.getsignal(signal.SIGALRM) == self._again:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if self.received is not None:
            raise PreparationStopped

    def install(self) -> None:
        """Take the signals over; only the main thread may."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._remember)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _remember(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.received = self.received or signal.Signals(number).name
        if self._preparing:
            signal.signal(signal.SIGALRM, self._again)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S, _AGAIN_S)
            raise PreparationStopped

    def _again(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._preparing:
            raise PreparationStopped
