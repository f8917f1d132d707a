"""A run's directory: where it is, the names of its files, and how a run is found.

Knows paths, `run.json`, and the hidden files that a killed worker leaves. Other modules handle the
remaining files.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from sf_tui import __version__
from sf_tui.errors import RunDamagedError, RunError, RunNotFoundError, UsageError, nearest_name
from sf_tui.home import user_path
from sf_tui.masking import mask_argv
from sf_tui.printable import printable
from sf_tui.run.clock import parse_rfc3339, rfc3339_now
from sf_tui.run.durable import (
    aside_name,
    finish_exchange,
    new_folder,
    read_regular,
    reason_of,
    remove,
    remove_abandoned,
    replace_file,
)
from sf_tui.run.labels import read_labels
from sf_tui.vocabulary.declared import (
    COUNT,
    NUMBER,
    TEXT,
    Doc,
    Field,
    fields_problem,
    list_of,
    map_of,
)

# Any file that `replace_file` was writing: run.json, inputs.json, heartbeat, a repaired log.
_TOP = re.compile(r"\..+\.\d+\.writing")
_UNFINISHED = re.compile(r"\.step-\d{6,}(~\d+)?\.(writing|gathered|deleting)")
_REPLACED = re.compile(r"\.(step-\d{6,})\.replaced")


def clear_leftovers(run: RunDirectory) -> None:
    """Delete unfinished files and restore folders whose replacement was interrupted.

    Raises:
        RunError: something can't be deleted.
    """
    try:
        for entry in _entries(run.path):
            if _TOP.fullmatch(entry.name):
                remove(entry)
        remove(run.path / ".model.writing")
        finish_exchange(run.model, run.path / ".model.replaced")
        for entry in _entries_below(run.checkpoints):
            replaced = _REPLACED.fullmatch(entry.name)
            if replaced:
                finish_exchange(entry.with_name(replaced[1]), entry)
            elif _UNFINISHED.fullmatch(entry.name):
                remove(entry)
        # Both this program and the safetensors library write temporary files into the caches.
        for entry in (*_entries_below(run.path / "neighbors"), *_entries(run.path / "answers")):
            if entry.name.startswith("."):
                remove(entry)
    except OSError as error:
        raise RunError(
            f"{error.filename or run.path}: what an earlier worker left can't be cleared up: "
            f"{error.strerror}",
            "check the owner of the run directory and its disk",
        ) from error


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _entries_below(folder: Path) -> Iterator[Path]:
    for stage in _entries(folder):
        yield from _entries(stage)


SCHEMA_VERSION = 1

_FACTS = (
    Field("schema", COUNT),
    Field("id", TEXT),
    Field("profile", TEXT),
    Field("argv", list_of(TEXT)),
    Field("created", TEXT, doc=Doc("when it was made", "RFC 3339")),
    Field("host", TEXT),
    Field("pid", COUNT),
    Field("process_started", NUMBER, doc=Doc("start of the process", "s since the epoch")),
    Field("versions", map_of(TEXT)),
    Field("output_dir", TEXT, doc=Doc("where the program that trains writes, in a run of a host")),
)
"""Fields of `run.json`; none of them is needed to resume a run."""


@dataclass(frozen=True)
class RunDirectory:
    """One run's directory; all paths derive from `path`."""

    path: Path

    @property
    def id(self) -> str:
        """The run's id: the name of its directory."""
        return self.path.name

    @property
    def run_json(self) -> Path:
        """Who created the run, with which versions, and which process owns it."""
        return self.path / "run.json"

    @property
    def profile(self) -> Path:
        """The fully resolved profile."""
        return self.path / "profile.toml"

    @property
    def events(self) -> Path:
        """The append-only event log."""
        return self.path / "events.jsonl"

    @property
    def commands(self) -> Path:
        """The append-only command log."""
        return self.path / "commands.jsonl"

    @property
    def worker_log(self) -> Path:
        """Output of a detached worker."""
        return self.path / "worker.log"

    def rank_log(self, rank: int) -> Path:
        """Output of a rank other than 0, where several processes train."""
        return self.path / "ranks" / f"{rank}.log"

    @property
    def lock(self) -> Path:
        """Locked (flock) while the worker lives."""
        return self.path / "lock"

    @property
    def heartbeat(self) -> Path:
        """Rewritten every two seconds by a live worker."""
        return self.path / "heartbeat"

    @property
    def checkpoints(self) -> Path:
        """STAGE/step-NNNNNN/ folders."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The final weights and tokenizer as a plain Hugging Face directory."""
        return self.path / "model"

    @property
    def references(self) -> Path:
        """Where the checkpoints of an imported run are; see `sf_tui.run.references`."""
        return self.path / "references.json"

    @property
    def host(self) -> Path:
        """Tokenized rows of a run that another program trains, as `host:FILE` data name them."""
        return self.path / "host"

    def read_run_json(self) -> dict[str, Any]:
        """Return the contents of `run.json`.

        Raises:
            RunDamagedError: it is missing, unreadable or damaged.
            RunError: it was written by a newer version of this program.
        """
        try:
            facts = orjson.loads(read_regular(self.run_json))
        except (OSError, orjson.JSONDecodeError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else str(error)
            raise self._damaged_facts(f"can't be read: {reason}") from error
        if not isinstance(facts, dict):
            raise self._damaged_facts("not a JSON object")
        problem = fields_problem(_FACTS, facts)
        if problem is not None:
            raise self._damaged_facts(problem)
        if facts.get("schema", 0) > SCHEMA_VERSION:
            raise RunError(
                f"{self.run_json}: schema {facts['schema']} is newer than this sf "
                f"({__version__}) knows",
                "update sf",
            )
        return facts

    @property
    def created(self) -> datetime | None:
        """When the run was created, in UTC; None if `run.json` does not record it.

        Raises:
            RunError: `run.json` can't be read.
        """
        try:
            return parse_rfc3339(self.read_run_json()["created"]).astimezone(UTC)
        except (KeyError, TypeError, ValueError):
            # Not written by this program; nothing else depends on it.
            return None

    def _damaged_facts(self, problem: str) -> RunDamagedError:
        return RunDamagedError(
            f"{self.run_json}: {problem}",
            "put it back; if it is lost, write {} into it: the run itself is in profile.toml, "
            "events.jsonl and checkpoints/",
        )

    def claim(self, facts: dict[str, Any]) -> None:
        """Record in `run.json` which process now owns the run."""
        content = orjson.dumps(self.read_run_json() | facts, option=orjson.OPT_INDENT_2) + b"\n"
        try:
            replace_file(self.run_json, content)
        except OSError as error:
            raise RunError(
                f"{self.run_json}: can't be written: {error.strerror}",
                "check the owner of the run directory and the room on its disk",
            ) from error

    @staticmethod
    def check_new(path: Path) -> None:
        """Refuse an absolute path where no run directory can be made.

        Raises:
            UsageError: the path exists or is not UTF-8.
        """
        check_utf8(path)
        # Unlike `exists`, this finds a dangling link and doesn't raise if the name is too long.
        if os.path.lexists(path):
            is_run = (path / "run.json").exists()
            raise UsageError(
                f"{path}: {'a run' if is_run else 'something'} of that name already exists; it is "
                "never overwritten",
                f"`sf resume {path}` continues it; or choose another --run-dir"
                if is_run
                else "choose another --run-dir",
            )

    @classmethod
    def create(
        cls, path: Path, *, profile_text: str, profile_name: str, argv: Sequence[str]
    ) -> RunDirectory:
        """Create a run directory; it appears only when complete.

        Raises:
            UsageError: the path exists or is not UTF-8; nothing was changed.
            RunError: the directory can't be written.
        """
        path = path.absolute()
        cls.check_new(path)
        facts = {
            "schema": SCHEMA_VERSION,
            "id": path.name,
            "profile": profile_name,
            # Bytes that are not UTF-8 arrive as lone surrogates, which JSON can't represent.
            "argv": [printable(argument) for argument in mask_argv(argv)],
            "created": rfc3339_now(),
            "host": socket.gethostname(),
            "versions": {"sf": __version__},
        }
        aside = path.with_name(aside_name(secrets.token_hex(4), "making"))
        try:
            remove_abandoned(path.parent, None, "making")
            with new_folder(path, aside) as folder:
                # It contains prompts and answers.
                folder.chmod(0o700)
                (folder / "run.json").write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
                (folder / "profile.toml").write_text(profile_text, encoding="utf-8")
                (folder / "events.jsonl").touch()
                (folder / "commands.jsonl").touch()
                (folder / "lock").touch()
        except OSError as error:
            raise RunError(
                f"{path}: can't make a run directory: {error.strerror or error}",
                "choose another place with --run-dir or $SF_HOME",
            ) from error
        return cls(path)


def check_utf8(path: Path) -> None:
    """Refuse a run directory whose path is not UTF-8: the event log and the profile contain it.

    Raises:
        UsageError: the path is not UTF-8.
    """
    # Other bytes arrive as lone surrogates.
    if any("\ud800" <= char <= "\udfff" for char in str(path)):
        raise UsageError(
            f"{printable(str(path), multiline=False)}: the path is not UTF-8",
            "give the run a directory whose whole path is UTF-8, by --run-dir or by renaming it",
        )


def runs_home() -> Path:
    """Return the folder that holds the runs: `$SF_HOME/runs`, else the user's data folder."""
    home = os.environ.get("SF_HOME")
    if home:
        return user_path(home) / "runs"
    # Deferred: only needed if $SF_HOME is not set.
    import platformdirs

    return Path(platformdirs.user_data_dir("sf")) / "runs"


def new_run_id(profile_name: str) -> str:
    """Return a unique run id that sorts by time."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{profile_name}-{secrets.token_hex(2)}"


def list_runs() -> list[RunDirectory]:
    """Return the runs in `runs_home()`, newest first, including those that can't be read.

    Raises:
        RunError: the folder can't be read.
    """
    home = runs_home()
    if not home.is_dir():
        return []
    try:
        found = [entry for entry in home.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise RunError(
            f"{home}: can't be read: {reason_of(error)}", "check its owner, or set SF_HOME"
        ) from error
    found = [entry for entry in found if _is_run(entry)]
    return [RunDirectory(entry) for entry in sorted(found, key=_made_at, reverse=True)]


def _is_run(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode) and bool((path / "run.json").lstat())
    except PermissionError:
        # Owned by another user, or its mode was changed: list it, marked as unreadable.
        return True
    except (OSError, ValueError):
        return False


def _made_at(path: Path) -> int:
    try:
        return (path / "profile.toml").stat().st_mtime_ns
    except OSError:
        # A damaged run is listed last and must not hide the others.
        return 0


def find_run(reference: str) -> RunDirectory:
    """Return the run with this id, name, unique id prefix or directory; `last` is the newest.

    Raises:
        RunNotFoundError: there is none, or several match.
    """
    try:
        as_path = user_path(reference)
    except UsageError as error:
        raise RunNotFoundError(error.message, "`sf runs` lists the runs") from error
    if _is_run(as_path):
        return RunDirectory(as_path.absolute())
    if as_path.is_dir() and ("/" in reference or reference.startswith(".")):
        raise RunNotFoundError(
            f"{as_path}: not a run directory (it has no run.json)", "`sf runs` lists the runs"
        )
    runs = list_runs()
    if reference == "last" and runs:
        return runs[0]
    fitting = (
        [run for run in runs if run.id == reference]
        or [run for run in runs if reference and read_labels(run.path)[0].name == reference]
        or [run for run in runs if reference and run.id.startswith(reference)]
    )
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(run.id for run in fitting[:4])
        raise RunNotFoundError(
            f"'{reference}' fits {len(fitting)} runs: {names}", "give more letters of the id"
        )
    near = nearest_name(reference, [run.id for run in runs])
    hint = f"did you mean '{near}'?" if near else "`sf runs` lists the runs"
    where = f"in {runs_home()}" if runs else f"(there is none yet in {runs_home()})"
    raise RunNotFoundError(f"no run '{reference}' {where}", hint)
