"""Reading a run for display: its state as far as it can be read, and the damage.

Readers use what they can read. A writer instead refuses a damaged log, or a run directory with a
link that points outside it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from sf_tui.errors import RunDamagedError, RunError
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import reason_of
from sf_tui.run.events import EventTail
from sf_tui.run.liveness import Liveness, probe_liveness
from sf_tui.run.state import RunState
from sf_tui.vocabulary.sizes import counted


@dataclass(frozen=True)
class RunReading:
    """The result of reading a run's files once.

    Attributes:
        state: the fold of the events that could be read.
        live: whether a worker is running.
        facts: contents of `run.json`; empty if it is damaged.
        damage: each problem with the file's name and line; empty for a healthy run.
    """

    state: RunState
    live: Liveness
    facts: dict[str, object]
    damage: list[str]


def read_run(run: RunDirectory) -> RunReading:
    """Read a run; damage to its files does not raise.

    Raises:
        RunError: `run.json` was written by a newer version of this program.
    """
    facts: dict[str, object] = {}
    damage: list[str] = []
    try:
        facts = run.read_run_json()
    except RunDamagedError as error:
        damage.append(error.message)
    state, of_log = read_state(run)
    damage += of_log
    live = probe_liveness(run)
    damage += live.damage
    return RunReading(state, live, facts, damage)


def read_state(run: RunDirectory) -> tuple[RunState, list[str]]:
    """Fold a run's log as far as it can be read; also return its damage."""
    state, tail = RunState(), EventTail(run.events)
    add = state.add
    try:
        for event in tail.iterate():
            add(event)
    except OSError as error:
        return state, [f"{run.events}: can't be read: {reason_of(error)}"]
    if not run.events.exists():
        return state, [f"{run.events}: missing"]
    return state, describe_damage(run, tail)


def describe_damage(run: RunDirectory, tail: EventTail) -> list[str]:
    """Return the damage to a log: the first places one by one, the others as a count."""
    told = [line.spell(run.events) for line in tail.damage]
    more = tail.unreadable + tail.gaps - len(told)
    return [*told, f"{run.events}: {counted(more, 'more damaged line')}"] if more else told


_FOLDERS = (
    *("checkpoints", "neighbors", "answers", "model", "ranks"),
    *(".model.writing", ".model.replaced"),
)
_FILES = ("run.json", "inputs.json", "profile.toml", "commands.jsonl", "heartbeat", "worker.log")
_FIRST_LINE_BYTES = 1 << 16


def check_links(run: RunDirectory) -> None:
    """Refuse a run directory with a link or a special file where a worker writes or deletes.

    Raises:
        RunError: there is one; nothing was changed.
    """
    for name in _FOLDERS:
        path = run.path / name
        # A plain file in place of a folder is harmless: the code that needs the folder reports it.
        _check_entry(path, folder=None)
        for entry in _walk(path):
            _check_entry(entry, folder=None)
    for name in _FILES:
        _check_entry(run.path / name, folder=False)
    _check_lock(run.lock)
    _check_log(run.events)


def _walk(folder: Path) -> Iterator[Path]:
    if not folder.is_dir() or folder.is_symlink():
        return
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(above, name)


def _check_entry(path: Path, *, folder: bool | None) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise RunError(
            f"{path}: a link to {path.readlink()}; a worker writes and deletes there, and follows "
            "no link out of its run directory",
            f"put the {'folder' if path.is_dir() else 'file'} itself there, or remove the link; "
            "the whole run directory may be on another disk",
        )
    fitting = {True: stat.S_ISDIR, False: stat.S_ISREG}
    fits = fitting[folder](mode) if folder is not None else stat.S_ISDIR(mode) or stat.S_ISREG(mode)
    if not fits:
        wanted = {True: "a folder", False: "a file", None: "a file or a folder"}[folder]
        raise RunError(f"{path}: not {wanted}", "move it out of the run directory")


def _check_lock(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise RunError(f"{path}: a link to {path.readlink()}, which is not there", "remove it")
    if path.exists() and not path.is_file():
        raise RunError(f"{path}: not a file", "move it away; a worker makes a new one")


def _check_log(path: Path) -> None:
    """Check that an event log is a file; if it is a link, that it points to an event log.

    A writer removes an incomplete last line, which must not be another file's content.
    """
    if not os.path.lexists(path):
        return
    if path.exists() and not path.is_file():
        raise RunError(f"{path}: not a file", "put the run's event log back in its place")
    if not path.is_symlink():
        return
    where = f"{path}: a link to {path.readlink()}"
    try:
        with path.open("rb") as file:
            line = file.readline(_FIRST_LINE_BYTES)
        first = orjson.loads(line) if line.endswith(b"\n") else None
    except OSError as error:
        raise RunError(
            f"{where}, which can't be read: {error.strerror}", "put the run's event log there"
        ) from error
    except orjson.JSONDecodeError:
        first = None
    if not isinstance(first, dict) or first.get("seq") != 1 or "type" not in first:
        raise RunError(f"{where}, which is no event log", "put the run's event log there")
