"""Start of a run's worker: in this process (schedulers), or detached in its own session."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sf_tui.cli.output import write_line
from sf_tui.cli.ranks import failure_of, launch_command, work_in_processes
from sf_tui.errors import RunBusyError, RunError, SfError, UsageError
from sf_tui.quick_imports import without_collecting
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventTail, damage_error, read_events, unreadable_error
from sf_tui.run.liveness import RunLock, probe_liveness
from sf_tui.run.log_repair import check_log, repair_log
from sf_tui.run.next_steps import is_complete
from sf_tui.run.state import RunState
from sf_tui.vocabulary.events import RunFinished, RunStarted
from sf_tui.worker.stop import StopSignals

if TYPE_CHECKING:
    from sf_tui.engine.ranks import Ranks
    from sf_tui.tui.terminal import ConsoleOptions

# Importing torch and transformers takes seconds, loading a large model a minute or two.
START_TIMEOUT_S = 600.0


def take_stop_signals() -> StopSignals:
    """Install the worker's signal handlers in this process.

    Called before the run directory exists, because a signal may come as soon as it is visible.
    """
    signals = StopSignals()
    signals.install()
    return signals


def work_here(
    run: RunDirectory,
    signals: StopSignals,
    *,
    json: bool,
    created: bool,
    accept_changed_data: bool = False,
    ranks: Ranks | None = None,
    processes: int = 1,
) -> int:
    """Run the worker in this process until the run ends; return the exit code.

    Args:
        run: the run.
        signals: from `take_stop_signals`; a signal already received stops the run at once.
        json: print the events to stdout.
        created: the directory was created for this call; see `remove_unstarted`.
        accept_changed_data: resume although files outside the run have changed.
        ranks: the processes of which this is rank 0; None: it trains alone.
        processes: number of processes to start for the run; if more than 1, this one only shows
            its events.
    """
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.cli.narration import headless_listeners

    listeners = headless_listeners(run, json=json)
    try:
        if processes > 1:
            offset = run.events.stat().st_size if run.events.exists() else 0
            process = start_detached(run, accept_changed_data, processes=processes)
            return work_in_processes(run, process, signals, listeners, offset=offset)
        with without_collecting():
            # Deferred: only here this process needs torch and transformers.
            from sf_tui.engine.ranks import ALONE
            from sf_tui.worker.worker import Worker

        worker = Worker(run, signals, accept_changed_data=accept_changed_data, ranks=ranks or ALONE)
        for listener in listeners:
            worker.listen(listener)
        return worker.work()
    except Exception as error:
        if created:
            remove_unstarted(run, error, in_sight=processes == 1 and ranks is None)
        raise


def remove_unstarted(run: RunDirectory, error: Exception, *, in_sight: bool) -> None:
    """Remove the directory of a new run that started nothing, unless its logs have the cause.

    Args:
        run: the run.
        error: what ended it. Wrong usage, data or models are described by their message alone.
        in_sight: the process that failed wrote to this terminal, and not to a log of the run.
    """
    explained = isinstance(error, SfError) and error.exit_code == UsageError.exit_code
    if (in_sight or explained) and not _was_started(run):
        shutil.rmtree(run.path)


def start_detached(
    run: RunDirectory,
    accept_changed_data: bool = False,
    environ: Mapping[str, str] | None = None,
    processes: int = 1,
) -> subprocess.Popen[bytes]:
    """Start a run's worker in its own session, so that closing a terminal can't end it.

    Args:
        run: the run.
        accept_changed_data: resume although files outside the run have changed.
        environ: environment variables to set for the worker.
        processes: number of processes that train together.

    Raises:
        RunError: the worker's log can't be written.
    """
    options = ["--accept-changed-data"] if accept_changed_data else []
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(run.worker_log, flags, 0o666)
    except OSError as error:
        raise RunError(
            f"{run.worker_log}: can't be opened: {error.strerror}",
            "a worker writes into its run directory: make it writable and free of links, or copy "
            "it to where you can write and resume the copy",
        ) from error
    with os.fdopen(handle, "ab") as log:
        return subprocess.Popen(
            launch_command(processes, "sf_tui.worker", [str(run.path), *options]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | dict(environ or {}),
        )


def wait_until_started(
    run: RunDirectory, process: subprocess.Popen[bytes], *, created: bool
) -> None:
    """Wait for a detached worker's first event.

    Raises:
        SfError: the worker could not start; the message is the worker's own.
    """
    tail = EventTail(run.events)
    tail.offset = 0 if created else run.events.stat().st_size
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        for event in tail.poll():
            if isinstance(event, RunFinished) and event.status == "failed":
                error = failure_of(run, event.exit_code, event.reason)
                if created:
                    remove_unstarted(run, error, in_sight=False)
                raise error
            return
        if process.poll() is not None:
            output = run.worker_log.read_text(encoding="utf-8", errors="replace").strip()
            last = output.splitlines()[-1] if output else f"exit code {process.returncode}"
            raise RunError(f"{run.path}: the worker ended at once: {last}", f"see {run.worker_log}")
        time.sleep(0.05)
    raise RunError(
        f"{run.path}: no event from the worker for {START_TIMEOUT_S:.0f} s",
        f"see {run.worker_log}; `sf stop` ends the worker",
    )


def play_in_console(
    run: RunDirectory,
    *,
    created: bool,
    options: ConsoleOptions,
    accept_changed_data: bool = False,
    processes: int = 1,
) -> int:
    """Start a detached worker, show the console, and return its exit code.

    Raises:
        SfError: the worker could not start.
    """
    # Deferred: textual takes a quarter of a second.
    from sf_tui.cli.attach import attach_to

    process = start_detached(run, accept_changed_data, processes=processes)
    code = attach_to(run, options, lambda: process.poll() is not None)
    if process.poll() not in (None, 0) and not _was_started(run):
        wait_until_started(run, process, created=created)
    return code


def _was_started(run: RunDirectory) -> bool:
    return any(isinstance(event, RunStarted) for event in read_events(run.events))


def finished_exit_code(run: RunDirectory) -> int | None:
    """Return the exit code of a completed run; None if it can be resumed.

    Raises:
        RunBusyError: the run's worker is alive.
        RunError: the log is damaged, or older than the checkpoints.
    """
    live = probe_liveness(run)
    if live.has_worker:
        raise RunBusyError(
            f"{run.path}: its worker is alive (pid {live.pid} on {live.host})",
            "`sf attach` shows it; `sf stop` ends it",
        )
    state, tail = RunState(), EventTail(run.events)
    try:
        for event in tail.iterate():
            state.add(event)
    except OSError as error:
        raise unreadable_error(run.events, error) from error
    ended = state.finished
    if ended is not None and is_complete(ended.status):
        return ended.exit_code
    if tail.is_damaged:
        raise damage_error(run.events, tail)
    check_log(run, tail.last_seq)
    if state.paused:
        write_line(
            f"{run.id} was paused; it trains on from its last checkpoint "
            f"(`sf act {run.id} pause` pauses it again)",
            err=True,
        )
    return None


def repair_before_resume(run: RunDirectory) -> str:
    """Repair the event log of a run without a worker; return what was done.

    Raises:
        RunBusyError: a worker holds the run.
        RunError: the log can't be read or written.
    """
    with RunLock(run):
        return repair_log(run)
