"""A rank other than 0: the same worker, which writes nothing but `ranks/N.log`."""

from __future__ import annotations

import os
import sys

from sf_tui.engine.process_ranks import ProcessRanks
from sf_tui.errors import RunError
from sf_tui.run.directory import RunDirectory
from sf_tui.worker.stop import StopSignals
from sf_tui.worker.worker import Worker


def follow(run: RunDirectory, signals: StopSignals, ranks: ProcessRanks) -> int:
    """Run a rank other than 0 until the run ends; return the run's exit code."""
    try:
        _write_to_log(run, ranks.rank)
    except OSError as error:
        ranks.leave(
            f"{run.path}: {error.strerror} on {os.uname().nodename}: all ranks need the run "
            "directory; choose a --run-dir on a file system that they share"
        )
        return RunError.exit_code
    return Worker(run, signals, ranks=ranks).work()


def _write_to_log(run: RunDirectory, rank: int) -> None:
    log = run.rank_log(rank)
    log.parent.mkdir(exist_ok=True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(log, flags, 0o666)
    sys.stdout.flush()
    sys.stderr.flush()
    for number in (1, 2):
        os.dup2(handle, number)
    os.close(handle)
