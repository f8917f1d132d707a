"""The ways in which a run stops: signals, the operator's stop, a rewind, and system failures.

This is the worker's control flow. Knows no stage and no op.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from sf_tui.errors import RunError, SfError
from sf_tui.run.hosted import resume_by_path

if TYPE_CHECKING:
    from sf_tui.engine.ranks import Ranks

# A library may swallow an exception raised inside its own error handling, so it is raised
# repeatedly until the preparation ends.
_AGAIN_S = 0.5


class StopRun(Exception):  # noqa: N818  no error: the operator asked for it
    """Request to save everything and end the run as stopped.

    Args:
        reason: the origin of the request, for `run_finished`.
        command: id of the requesting command, which is done once everything is saved.
    """

    def __init__(self, reason: str, command: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.command = command


class OutOfMemoryError(RunError):
    """The device ran out of memory; the hint lists the settings that make a step smaller."""

    def __init__(self, where: str, cause: BaseException) -> None:
        # Python's own MemoryError has no message.
        said = str(cause).strip() or type(cause).__name__
        super().__init__(
            f"out of memory {where}: {said.splitlines()[0][:160]}",
            "make a step smaller by [train] micro_batch_size or batch_size, max_length, "
            'gradient_checkpointing = true, or [model] dtype = "bfloat16"; the last checkpoint is '
            "intact and `sf resume` continues from it",
        )


class CommandFailedError(Exception):
    """A command failed; the run continues unchanged.

    Args:
        reason: one line for the command's answer.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception reports that an allocator ran out of memory."""
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
    """Convert a system exception to a RunError; None if the exception is a bug in sf.

    Args:
        error: the exception raised during the run.
        run: the run's directory, named in the message if the exception names no file.
    """
    if is_out_of_memory(error):
        return OutOfMemoryError("in the run", error)
    if isinstance(error, OSError):
        return RunError(
            f"{error.filename or run}: {error.strerror or error}",
            f"earlier checkpoints are intact; fix the disk, then {resume_by_path(run)} continues "
            "the run",
        )
    return None


@contextmanager
def failing_alone(run: Path) -> Iterator[None]:
    """Convert errors inside the block into the failure of one command.

    Args:
        run: the run's directory.

    Raises:
        CommandFailedError: the block failed; exceptions from bugs in sf are passed on unchanged.
    """
    try:
        yield
    except SfError as error:
        raise CommandFailedError(one_line(error)) from error
    except (OSError, RuntimeError, MemoryError) as error:
        told = as_run_error(error, run)
        if told is None:
            raise
        # Omit the hint: it is about steps and resuming, but the run continues.
        raise CommandFailedError(told.message) from error


def one_line(error: SfError) -> str:
    """Return message and hint on one line, as in events."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


class Rewind(Exception):  # noqa: N818  no error: the stage goes on from an earlier step
    """The stage was rewound to a checkpoint; the remaining work at this step is void."""


class PreparationStopped(BaseException):
    """A signal arrived during preparation; not an Exception, so libraries can't swallow it."""


class StopSignals:
    """Records the first signal that requested the worker to stop.

    SIGTERM, SIGINT and SIGUSR1 (sent by SLURM ahead of a time limit) stop at the next step.
    SIGHUP, sent by a closing terminal, is ignored: no terminal may end a run.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._preparing = False

    def share(self, ranks: Ranks) -> None:
        """Take over a signal that another rank received."""
        if ranks.world == 1:
            return
        numbers = [0.0] * ranks.world
        if self.received is not None:
            numbers[ranks.rank] = signal.Signals[self.received].value
        received = [int(number) for number in ranks.sums(numbers) if number]
        if received:
            self.received = signal.Signals(received[0]).name

    @contextmanager
    def ending_preparation(self) -> Iterator[None]:
        """Let a signal end the block immediately: it has nothing to save.

        Raises:
            PreparationStopped: a signal arrived, inside the block or earlier.
        """
        try:
            self._preparing = True
            if self.received is not None:
                raise PreparationStopped
            yield
        except Exception as error:
            if self.received is None:
                raise
            # A library may have replaced the exception.
            raise PreparationStopped from error
        finally:
            self._preparing = False
            if self.received is not None and signal.getsignal(signal.SIGALRM) == self._again:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if self.received is not None:
            raise PreparationStopped

    def install(self) -> None:
        """Install the signal handlers; call this from the main thread."""
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
