"""How a run stops: signals, the operator's stop, a rewind, and failures of the system.

These are the worker's own control flow. Knows no stage and no op.
"""

from __future__ import annotations

import errno
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from sf_tui.errors import RunError, SfError

# A library may swallow an exception that is raised inside its own error handling, so it is raised
# again and again until the preparation ends.
_AGAIN_S = 0.5


class StopRun(Exception):  # noqa: N818  no error: the operator asked for it
    """Save everything and end as stopped.

    Args:
        reason: who asked, for `run_finished`.
        command: id of the command that asked, which is done once everything is saved.
    """

    def __init__(self, reason: str, command: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.command = command


class OutOfMemoryError(RunError):
    """The device had no room for a step; told with the levers that make a step smaller."""

    def __init__(self, where: str, cause: BaseException) -> None:
        # Python's own MemoryError says nothing.
        said = str(cause).strip() or type(cause).__name__
        super().__init__(
            f"out of memory {where}: {said.splitlines()[0][:160]}",
            "make a step smaller by [train] micro_batch_size or batch_size, max_length, "
            'gradient_checkpointing = true, or [model] dtype = "bfloat16"; the last checkpoint is '
            "intact and `sf resume` goes on from it",
        )


class CommandFailedError(Exception):
    """A command can't be carried out; the run goes on as it was.

    Args:
        reason: one line for the command's answer.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception is an allocator's way to say that there is no room."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in text
        for words in ("can't allocate memory", "out of memory", "alloc_cpu", "bad_alloc")
    )


def as_run_error(error: Exception, run: Path) -> RunError | None:
    """Return what an exception of the system means for a run; None where it is a fault of ours.

    Args:
        error: what was raised while the run was played.
        run: its directory, named where the exception names no file.
    """
    if is_out_of_memory(error):
        return OutOfMemoryError("in the run", error)
    if isinstance(error, OSError):
        return RunError(
            f"{error.filename or run}: {error.strerror or error}",
            "earlier checkpoints are intact; mend the disk, then "
            f"`sf resume {shlex.quote(str(run))}` goes on",
        )
    return None


@contextmanager
def failing_alone(run: Path) -> Iterator[None]:
    """Turn what goes wrong inside into the failure of one command.

    Args:
        run: the run's directory.

    Raises:
        CommandFailedError: it went wrong; faults of ours are passed on as they are.
    """
    try:
        yield
    except SfError as error:
        raise CommandFailedError(one_line(error)) from error
    except (OSError, RuntimeError, MemoryError) as error:
        told = as_run_error(error, run)
        if told is None:
            raise
        # Its hint speaks of steps and resuming: the run goes on.
        raise CommandFailedError(told.message) from error


def one_line(error: SfError) -> str:
    """Return message and hint in one line, as events carry them."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


class Rewind(Exception):  # noqa: N818  no error: the stage goes on from an earlier step
    """The stage was taken back to a checkpoint; what was left to do at this step is void."""


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
