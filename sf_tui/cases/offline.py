"""What `sf diagnose` and `sf recover` do to files: lock a run, append a diagnosis, write a model.

A diagnosis of a run writes one event, after whatever its log holds. A repair writes a model
directory elsewhere, complete or not at all. Knows nothing of cases.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from sf_tui.engine.loading import LoadedModel, save_model
from sf_tui.errors import RunError, UsageError
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import aside_name, new_folder, remove_abandoned
from sf_tui.run.events import EventLog
from sf_tui.run.links import check_links
from sf_tui.run.liveness import RunLock
from sf_tui.vocabulary.events import DiagnosisMade


@contextmanager
def locked(run: RunDirectory) -> Iterator[None]:
    """Hold a run's lock, so that no worker starts on it.

    Raises:
        RunError: a worker holds it, or a link leads out of its directory.
    """
    check_links(run)
    lock = RunLock(run)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def append_diagnosis(run: RunDirectory, event: DiagnosisMade) -> DiagnosisMade:
    """Append a `diagnosis` event to a run's log and return it; the caller holds the lock.

    Raises:
        RunError: the log can't be read or written.
    """
    log = EventLog(run.events)
    try:
        event = log.append(event)
        log.sync()
    finally:
        log.close()
    return event


def check_out(out: Path, source: Path | None, run: RunDirectory | None) -> Path:
    """Return where a repaired model goes, as an absolute path.

    Args:
        out: the directory to create.
        source: the model directory that is repaired, if it is one.
        run: the run that is repaired, if it is one.

    Raises:
        UsageError: something of that name exists, it is inside what is repaired, or the place
            can't be written.
    """
    out = out.expanduser().absolute()
    given = [source] if source is not None else []
    given += [run.checkpoints, run.model] if run is not None else []
    for place in given:
        if out.resolve().is_relative_to(place.resolve()):
            raise UsageError(
                f"--out {out}: it is inside what is repaired, which is never written into",
                "choose a directory beside it",
            )
    if os.path.lexists(out):
        raise UsageError(
            f"--out {out}: something of that name exists; it is never written into",
            "choose another --out",
        )
    above = next(parent for parent in out.parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out}: {above} can't be written", "choose another --out")
    return out


def write_model(loaded: LoadedModel, out: Path) -> None:
    """Write a model directory aside and rename it; an interruption leaves nothing behind.

    Raises:
        RunError: the disk is full, or it can't be written.
    """
    try:
        remove_abandoned(out.parent, out.name, "writing")
        with new_folder(out, out.with_name(aside_name(out.name, "writing"))) as folder:
            save_model(loaded, folder)
    except FileExistsError as error:
        raise RunError(f"{out}: it was created meanwhile", "choose another --out") from error
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{out}: can't write the repaired model: {error}", "make room, or choose another --out"
        ) from error
