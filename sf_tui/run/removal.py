"""Deletes a whole run: moved aside under a hidden name first, so that no half run is left.

Never follows a link, and never deletes a run that a worker has or may be about to take.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from sf_tui.errors import RunBusyError, RunError, UsageError
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import (
    aside_name,
    reason_of,
    remove,
    remove_abandoned,
    sync_directory,
)
from sf_tui.run.hosted import host_name, host_output, is_inside
from sf_tui.run.labels import LABELS_FILE
from sf_tui.run.liveness import RunLock, WorkerState, probe_liveness

STARTS_WITHIN_S = 300.0
"""A younger run without a worker may still be starting: torch and a large model take minutes."""
_WORD = "removing"
_OWN = {
    *("run.json", "profile.toml", "inputs.json", "events.jsonl", "commands.jsonl", "heartbeat"),
    *("lock", "worker.log", "checkpoints", "neighbors", "model", LABELS_FILE),
    *("answers", "console", "host", "ranks", "references.json"),
}


def foreign_entries(run: RunDirectory) -> list[str]:
    """Return the names in a run directory that `sf` did not write, sorted."""
    try:
        names = [entry.name for entry in run.path.iterdir()]
    except OSError:
        return []
    ours = ("events.jsonl.damaged-", ".")
    return sorted(name for name in names if name not in _OWN and not name.startswith(ours))


def check_removable(run: RunDirectory) -> None:
    """Refuse a directory that can't be deleted as a run.

    Raises:
        UsageError: it is a link, not a run directory, or holds what another program wrote.
        RunBusyError: it has a worker, or may be starting.
    """
    if run.path.is_symlink():
        raise UsageError(
            f"{run.path}: a link to {run.path.readlink()}",
            "name the run directory itself, then remove the link",
        )
    # A `run.json` alone may belong to another program.
    if not (os.path.lexists(run.events) or os.path.lexists(run.profile)):
        raise UsageError(
            f"{run.path}: has neither events.jsonl nor profile.toml, so it may not be a run",
            "delete it yourself if it is of no use",
        )
    output = host_output(run)
    if output is not None and output.exists() and is_inside(output, run):
        raise UsageError(
            f"{run.path}: {host_name(run)} writes its checkpoints into it, to {output}; they would "
            "be deleted with the run",
            f"move {output} out of the run directory first",
        )
    check_idle(run)


def check_idle(run: RunDirectory) -> None:
    """Refuse a run that has a worker or may be starting.

    Raises:
        RunBusyError: it does.
    """
    live = probe_liveness(run)
    if live.has_worker:
        raise RunBusyError(
            f"{run.path}: a worker has this run ({live.state})", f"`sf stop {run.path}` ends it"
        )
    if live.state is WorkerState.STARTING:
        try:
            age_s = time.time() - run.path.stat().st_mtime
        except OSError:
            age_s = 0.0
        if age_s < STARTS_WITHIN_S:
            raise RunBusyError(
                f"{run.path}: made {age_s:.0f} s ago, its worker may be starting",
                f"wait until it is {STARTS_WITHIN_S:.0f} s old, or start it and stop it",
            )


def lock_to_delete(run: RunDirectory) -> AbstractContextManager[None]:
    """Return the lock to hold while something of a run is deleted: its own, if it has one.

    A link or a special file in its place is nothing that a worker could hold, and a link must not
    be followed out of the run.
    """
    if run.lock.is_symlink() or (os.path.lexists(run.lock) and not run.lock.is_file()):
        return nullcontext()
    return RunLock(run)


def remove_run(run: RunDirectory) -> None:
    """Delete a run directory; a kill leaves the whole run, or a hidden rest of it.

    Raises:
        UsageError: as for `check_removable`.
        RunBusyError: it has a worker.
        RunError: it can't be deleted.
    """
    check_removable(run)
    aside = run.path.with_name(aside_name(secrets.token_hex(4), _WORD))
    try:
        with lock_to_delete(run):
            run.path.rename(aside)
        sync_directory(aside.parent)
        remove(aside)
    except OSError as error:
        rest = f"; what is left of it is {aside}" if os.path.lexists(aside) else ""
        raise RunError(
            f"{error.filename or run.path}: can't be deleted: {reason_of(error)}{rest}",
            "check the owner of the run directory and of the folder that holds it",
        ) from error


def clear_removed(folder: Path) -> None:
    """Delete what killed deletions left in a folder of runs.

    Raises:
        RunError: something can't be deleted.
    """
    try:
        remove_abandoned(folder, None, _WORD)
    except OSError as error:
        raise RunError(
            f"{error.filename or folder}: what an earlier deletion left can't be deleted: "
            f"{reason_of(error)}",
            "check its owner",
        ) from error
