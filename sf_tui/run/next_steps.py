"""What can be done next with a run whose worker is gone, in words for every reader.

A completed run is never sent to `sf resume`, which would refuse it, and neither is one that another
program trains. Knows how runs end; knows nothing of how advice is shown.
"""

from __future__ import annotations

from sf_tui.run.liveness import WorkerState

_ENDED = {
    "completed": "is completed",
    "guard_failed": "is completed, with a failed guard",
    "stopped": "was stopped",
    "failed": "has failed",
}
_COMPLETE = ("completed", "guard_failed")


def is_complete(status: str) -> bool:
    """Return whether a run with this end status has no steps left."""
    return status in _COMPLETE


def why_no_worker(run: str, state: WorkerState, status: str) -> str:
    """Return why no worker can act on a run.

    Args:
        run: the run's name, or other words for it.
        state: finished or dead.
        status: how the run ended, from `end_status`; empty for a dead worker.
    """
    if state is WorkerState.DEAD:
        return f"the worker of {run} is dead"
    return f"{run} {_ENDED.get(status, 'has ended')}"


def what_next(run: str, status: str, host: str) -> str:
    """Return the commands that lead on from a run's end.

    Args:
        run: the run's name on the command line.
        status: how it ended; empty for a dead worker.
        host: the program that trains it; empty if `sf` does.
    """
    if is_complete(status):
        return f"`sf diagnose {run}` tests what was lost, `sf recover {run} --out DIR` repairs it"
    if host:
        return f"{host}'s own resume continues it"
    return f"`sf resume {run}` continues it from its last checkpoint"


def command_instead(run: str, status: str, after_end: str, host: str) -> str:
    """Return the one thing to do instead of an action that needs a worker, commands in backticks.

    Args:
        run: the run's name on the command line.
        status: how the run ended; empty for a dead worker.
        after_end: as for `what_instead`.
        host: as for `what_next`.
    """
    if is_complete(status):
        return f"`{(after_end or 'sf diagnose {run}').format(run=run)}`"
    return f"{host}'s own resume continues it" if host else f"`sf resume {run}`"


def what_instead(run: str, status: str, after_end: str, host: str) -> str:
    """Return what to do instead of an action that needs a worker.

    Args:
        run: the run's name on the command line.
        status: how the run ended; empty for a dead worker.
        after_end: the action's command line for a run without a worker, with `{run}`; empty if the
            action has none.
        host: as for `what_next`.
    """
    if not after_end:
        return what_next(run, status, host)
    now = f"`{after_end.format(run=run)}` does this without a worker"
    return now if is_complete(status) else f"{now}; {what_next(run, status, host)}"
