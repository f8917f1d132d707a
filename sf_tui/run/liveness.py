"""Whether a run's worker is alive, from its lock, its heartbeat and the log's last event.

A PID is never trusted: PIDs are reused and have no meaning on another host.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import orjson

from sf_tui.errors import RunBusyError, RunError
from sf_tui.run.clock import seconds_since_epoch
from sf_tui.run.devices import DeviceReading
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import check_regular, open_regular, read_regular, reason_of, replace_file
from sf_tui.run.rank_readings import RankReading
from sf_tui.vocabulary.declared import (
    COUNT,
    NUMBER,
    TEXT,
    Doc,
    Field,
    as_object,
    build,
    fields_problem,
    list_of,
    nullable,
    object_of,
)

HEARTBEAT_EVERY_S = 2.0
SILENT_AFTER_S = 10.0
DEAD_AFTER_S = 60.0
_ENDS_WITHIN_S = 5.0

Readings = tuple[Sequence[DeviceReading], Sequence[RankReading]]
"""The devices of all processes of a run, and the processes themselves if there are several."""

_BEAT = (
    Field("time", NUMBER, required=True, doc=Doc("time of the beat", "s since the epoch")),
    Field("host", nullable(TEXT)),
    Field("pid", nullable(COUNT)),
    Field("began", NUMBER, doc=Doc("when the worker began", "s since the epoch")),
    Field("devices", list_of(object_of(DeviceReading)), doc=Doc("the devices of the run")),
    Field("ranks", list_of(object_of(RankReading)), doc=Doc("its processes, if several")),
)
"""Fields of a heartbeat."""


class WorkerState(StrEnum):
    """What is known about a run's worker."""

    STARTING = "starting"
    """The directory exists; no worker has taken the lock yet."""
    ALIVE = "alive"
    SILENT = "silent"
    """It should be alive, but its heartbeat is older than `SILENT_AFTER_S`."""
    DEAD = "dead"
    """It ended without a `run_finished` event; `sf resume` continues the run."""
    FINISHED = "finished"
    """The log's last event is `run_finished`."""


@dataclass(frozen=True)
class Liveness:
    """The state of a run's worker, and the evidence."""

    state: WorkerState
    pid: int | None = None
    host: str | None = None
    heartbeat_age_s: float | None = None
    damage: tuple[str, ...] = ()
    """Problems in the files that the state was derived from."""
    devices: tuple[DeviceReading, ...] = ()
    """The devices of all its processes, as in its last heartbeat."""
    ranks: tuple[RankReading, ...] = ()
    """The processes that train together, as in its last heartbeat; none if there is one."""
    began_s: float | None = None
    """When the worker began, in seconds since the epoch; None: unknown."""

    @property
    def has_worker(self) -> bool:
        """Whether a worker owns the run, even a silent one."""
        return self.state in {WorkerState.ALIVE, WorkerState.SILENT}

    def is_loading(self, last_time: str) -> bool:
        """Return whether the worker has written nothing yet: what the log ends with is another's.

        Args:
            last_time: the time of the log's newest event; empty without one.
        """
        last_s = seconds_since_epoch(last_time)
        return self.began_s is not None and last_s is not None and last_s < self.began_s

    @property
    def ranks_now(self) -> list[RankReading]:
        """The ranks of a live run; of one that has ended, those that were gone before its end."""
        ranks = list(self.ranks)
        # Rank 0 writes the heartbeat, so what is true of the worker is true of it.
        if ranks and self.state is WorkerState.DEAD:
            ranks[0] = replace(ranks[0], gone=True)
        elif ranks and self.state is WorkerState.SILENT:
            ranks[0] = replace(ranks[0], silent_s=self.heartbeat_age_s or 0.0)
        return [one for one in ranks if one.gone or self.has_worker]


class RunLock:
    """The worker's lock on a run; the kernel releases it however the worker ends.

    As a context manager it holds the run for as long as the block runs.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._handle: int | None = None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            RunBusyError: another worker holds it.
            RunError: it can't be created or locked, for example in a read-only run directory.
        """
        try:
            # Must not block on a FIFO in its place.
            handle = os.open(
                self._run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666
            )
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode):
                os.close(handle)
                check_regular(mode, self._run.lock)
        except OSError as error:
            raise RunError(
                f"{self._run.lock}: can't be opened: {reason_of(error)}",
                "a worker writes into its run directory: make it writable, or copy it to where "
                "you can write and resume the copy; it makes the lock itself",
            ) from error
        # A reader that tests the lock holds it for an instant: try again.
        for _ in range(20):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    os.close(handle)
                    raise RunError(
                        f"{self._run.lock}: can't be locked: {error.strerror}",
                        "the file system must support flock; choose another --run-dir",
                    ) from error
                time.sleep(0.05)
            else:
                self._handle = handle
                return
        os.close(handle)
        raise RunBusyError(
            f"{self._run.path}: another worker has this run",
            "`sf attach` shows it; `sf stop` ends it",
        )

    def release(self) -> None:
        """Release the lock."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class Heartbeat:
    """Rewrites the heartbeat file every two seconds from its own thread.

    Args:
        run: the run.
        read: returns what the run's devices are doing, and its processes if there are several.
    """

    def __init__(self, run: RunDirectory, read: Callable[[], Readings] = lambda: ((), ())) -> None:
        self._run = run
        self._read = read
        self._began_s = time.time()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Write the first beat and start the thread."""
        self._write()
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and record which of several processes are gone."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_ENDS_WITHIN_S)
        # A driver in trouble may hold it.
        if not self._thread.is_alive() and any(one.gone for one in self._read()[1]):
            self._write()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_EVERY_S):
            self._write()

    def _write(self) -> None:
        beat: dict[str, Any] = {
            "time": time.time(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "began": self._began_s,
        }
        devices, ranks = self._read()
        beat["devices"], beat["ranks"] = as_object(list(devices)), as_object(list(ranks))
        content = orjson.dumps(beat)
        try:
            replace_file(self._run.heartbeat, content, durable=False)
        except OSError:
            # A full disk must not end the training from this thread: a missed beat shows as
            # `silent`, and the worker reports the same disk at its next event.
            return


def probe_liveness(run: RunDirectory, now: float | None = None) -> Liveness:
    """Determine whether the run's worker is alive.

    Args:
        run: the run.
        now: the current time in seconds since the epoch; default: the clock's.
    """
    beat, problem = _read_heartbeat(run)
    damage = () if problem is None else (f"{run.heartbeat}: {problem}",)
    pid, host = beat.get("pid"), beat.get("host")
    devices = tuple(build(DeviceReading, one) for one in beat.get("devices", ()))
    ranks = tuple(build(RankReading, one) for one in beat.get("ranks", ()))
    age = (time.time() if now is None else now) - beat["time"] if "time" in beat else None
    here = host is None or host == socket.gethostname()

    def found(state: WorkerState) -> Liveness:
        return Liveness(state, pid, host, age, damage, devices, ranks, beat.get("began"))

    if here and _lock_is_held(run):
        silent = age is not None and age > SILENT_AFTER_S
        # A diagnosis of a finished run holds its lock without a heartbeat.
        if not (silent and last_event_type(run) == "run_finished"):
            return found(WorkerState.SILENT if silent else WorkerState.ALIVE)
    last = last_event_type(run)
    if last == "run_finished":
        return found(WorkerState.FINISHED)
    # A run with a lost or damaged heartbeat is not new: waiting for its worker would never end.
    if not beat and problem is None and last is None:
        return found(WorkerState.STARTING)
    # flock may not work across the nodes of a cluster; then only the heartbeat counts.
    if not here and age is not None and age <= DEAD_AFTER_S:
        return found(WorkerState.SILENT if age > SILENT_AFTER_S else WorkerState.ALIVE)
    return found(WorkerState.DEAD)


def _read_heartbeat(run: RunDirectory) -> tuple[dict[str, Any], str | None]:
    """Return the heartbeat, empty if there is none, and any problem with it."""
    try:
        beat = orjson.loads(read_regular(run.heartbeat))
    except FileNotFoundError:
        return {}, None
    except orjson.JSONDecodeError:
        return {}, "not JSON"
    except OSError as error:
        return {}, f"can't be read: {reason_of(error)}"
    if not isinstance(beat, dict):
        return {}, "not a JSON object"
    problem = fields_problem(_BEAT, beat)
    return ({}, problem) if problem is not None else (beat, None)


def _lock_is_held(run: RunDirectory) -> bool:
    try:
        handle = os.open(run.lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        # There is no lock file, or it is not one that a process could hold.
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def last_event_type(run: RunDirectory) -> str | None:
    """Return the type of the last complete event, reading only the end of the log.

    A diagnosis doesn't count: it may follow the end of a run, which stays finished.
    """
    event = _last_event(run)
    return None if event is None else _type_of(event)


def end_status(run: RunDirectory) -> str:
    """Return how a run ended: `completed`, `guard_failed`, `stopped` or `failed`.

    Empty if it has not ended, or if its worker died.
    """
    event = _last_event(run)
    if event is None or _type_of(event) != "run_finished":
        return ""
    status = event.get("status")
    return status if isinstance(status, str) else ""


def end_event(run: RunDirectory) -> tuple[str, int, str | None] | None:
    """Return the status, the exit code and the reason of a run's end; None if it has not ended.

    An exit code that no process can have is 1.
    """
    event = _last_event(run)
    if event is None or _type_of(event) != "run_finished":
        return None
    status, code, reason = event.get("status"), event.get("exit_code"), event.get("reason")
    fits = type(code) is int and 0 <= code <= 255
    return (
        status if isinstance(status, str) else "failed",
        code if fits and isinstance(code, int) else 1,
        reason if isinstance(reason, str) else None,
    )


def _last_event(run: RunDirectory) -> dict[str, Any] | None:
    try:
        with open_regular(run.events) as file:
            size = file.seek(0, os.SEEK_END)
            span = min(size, 1 << 16)
            while span:
                file.seek(size - span)
                lines = file.read(span).split(b"\n")[:-1]
                # Unless the whole log was read, the first line may be cut.
                whole = lines if span == size else lines[1:]
                for line in reversed(whole):
                    event = _parsed(line)
                    if _type_of(event) != "diagnosis":
                        return event
                if span == size:
                    return None
                span = min(size, span * 4)
    except OSError:
        # The reader of the whole log reports why it can't be read.
        return None
    return None


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def _type_of(event: dict[str, Any]) -> str | None:
    found = event.get("type")
    return found if isinstance(found, str) else None
