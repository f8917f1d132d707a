"""`sf run` as one of several processes, and as what starts them.

Under torchrun or accelerate, rank 0 behaves as `sf run --no-ui`. Without a launcher, `[launch]
processes` of the profile decides how many processes torchrun starts. Imports no torch before it is
needed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sf_tui.engine.processes import count_processes
from sf_tui.errors import RunError, SfError, UsageError
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventTail
from sf_tui.run.liveness import end_event
from sf_tui.worker.launched import connect_ranks
from sf_tui.worker.stop import StopSignals

if TYPE_CHECKING:
    from sf_tui.engine.process_ranks import ProcessRanks
    from sf_tui.profile import Profile
    from sf_tui.vocabulary.events import Event

_POLL_S = 0.1


def work_as_rank(
    find: Callable[[], RunDirectory],
    signals: StopSignals,
    work: Callable[[RunDirectory, ProcessRanks], int],
) -> int:
    """Run one rank of a run until it ends; return the run's exit code.

    Args:
        find: makes or finds the run; called in rank 0 only.
        signals: the signals that stop it.
        work: runs rank 0's worker.
    """
    # Deferred: importing torch takes seconds.
    from sf_tui.engine.ranks import MainFailedError, RunEnded

    ranks = connect_ranks()
    try:
        path = ranks.decide(lambda: str(find().path))
    except (MainFailedError, RunEnded) as end:
        # Rank 0 says why.
        return end.exit_code
    # Deferred: importing torch takes seconds.
    from sf_tui.worker.rank_process import follow

    run = RunDirectory(Path(path))
    return work(run, ranks) if ranks.is_main else follow(run, signals, ranks)


def processes_of(profile: Profile) -> int:
    """Return how many processes a profile starts on this machine.

    Raises:
        UsageError: it wants one for each GPU, and there is none.
    """
    count = count_processes(profile)
    if not count:
        raise UsageError(
            '[launch] processes = "gpus": torch finds no GPU on this machine',
            "`sf doctor` shows what it finds; processes = 1 trains on the CPU",
        )
    return count


def launch_command(processes: int, module: str, arguments: Iterable[str]) -> list[str]:
    """Return the command line that runs a module in one process or, by torchrun, in several."""
    command = [sys.executable]
    if processes > 1:
        # No elastic restarts: a run is continued by `sf resume`, from its last checkpoint.
        command += ["-m", "torch.distributed.run", "--standalone", "--max-restarts=0"]
        command.append(f"--nproc-per-node={processes}")
    return [*command, "-m", module, *arguments]


def work_in_processes(
    run: RunDirectory,
    process: subprocess.Popen[bytes],
    signals: StopSignals,
    listeners: Iterable[Callable[[Event], None]],
    *,
    offset: int,
) -> int:
    """Show the events of a run that other processes train, until they end.

    Args:
        run: the run.
        process: the one that started them.
        signals: a signal received here is passed on to rank 0.
        listeners: called with each event.
        offset: bytes of the event log from before.

    Raises:
        RunError: the processes ended before the run did.
    """
    tail = EventTail(run.events, offset)
    shown = list(listeners)
    passed_on = False
    while True:
        ended = process.poll() is not None
        for event in tail.poll():
            for listener in shown:
                listener(event)
        if ended:
            break
        if signals.received is not None and not passed_on:
            _pass_on(run, process, signals.received)
            passed_on = True
        time.sleep(_POLL_S)
    end = end_event(run) if tail.offset > offset else None
    if end is None:
        why = _last_error(run) or "killed, or out of memory"
        raise RunError(
            f"{run.path}: its processes ended before the run did: {why}",
            f"see {_logs_of(run)}; `sf resume {run.path}` goes on from its last checkpoint, if it "
            "has one",
        )
    status, code, reason = end
    if status == "failed":
        raise failure_of(run, code, reason)
    return code


def failure_of(run: RunDirectory, code: int, reason: str | None) -> SfError:
    """Return the error to raise for a run that failed in other processes.

    Args:
        run: the run.
        code: its exit code.
        reason: from its `run_finished` event.
    """
    if code == UsageError.exit_code:
        return UsageError(reason or "failed")
    return RunError(reason or "failed", f"see {_logs_of(run)}")


def _logs_of(run: RunDirectory) -> str:
    ranks = run.rank_log(1).parent
    return f"{run.worker_log} and {ranks}" if ranks.is_dir() else str(run.worker_log)


def _last_error(run: RunDirectory) -> str:
    """Return the last line of a worker's log that names an error of ours or of Python's."""
    try:
        lines = run.worker_log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    # torchrun reports that a process has failed; it doesn't know why.
    named = [one.strip() for one in lines if "Error: " in one and "ChildFailed" not in one]
    return named[-1][:200] if named else ""


def _pass_on(run: RunDirectory, process: subprocess.Popen[bytes], name: str) -> None:
    """Send a signal to rank 0, or end the launcher while there is none yet."""
    # Deferred: not needed for `sf --help`.
    import psutil

    pid = run.read_run_json().get("pid")
    try:
        # Before rank 0 has taken the run over, the pid is that of an earlier worker.
        started = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        if pid is not None and pid in started:
            os.kill(pid, signal.Signals[name])
        else:
            process.terminate()
    except (psutil.NoSuchProcess, ProcessLookupError):
        # It has ended by itself, which the caller sees.
        return
