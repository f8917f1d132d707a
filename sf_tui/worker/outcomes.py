"""The ways in which a run ends, as the worker's own control flow."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sf_tui.errors import RunError, SfError


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
