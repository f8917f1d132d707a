"""Whether a run's worker lives: its lock, its heartbeat, and the log's last word.

A pid alone proves nothing (they are reused, and mean nothing on another host), so none is trusted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from sf_tui.errors import RunBusyError, RunError
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import check_regular, open_regular, read_regular, reason_of, replace_file
from sf_tui.vocabulary.declared import COUNT, NUMBER, TEXT, Doc, Field, fields_problem, nullable

HEARTBEAT_EVERY_S = 2.0
SILENT_AFTER_S = 10.0
DEAD_AFTER_S = 60.0

_BEAT = (
    Field("time", NUMBER, required=True, doc=Doc("time of the beat", "s since the epoch")),
    Field("host", nullable(TEXT)),
    Field("pid", nullable(COUNT)),
)
"""What a heartbeat says."""


class WorkerState(StrEnum):
    """What is known of a run's worker."""

    STARTING = "starting"
    """The directory is there; no worker has taken the lock yet."""
    ALIVE = "alive"
    SILENT = "silent"
    """It should be alive, but its heartbeat is older than `SILENT_AFTER_S`."""
    DEAD = "dead"
    """It is gone without a last word; `sf resume` goes on."""
    FINISHED = "finished"
    """The log's last word is `run_finished`."""


@dataclass(frozen=True)
class Liveness:
    """What is known of a run's worker, and from what."""

    state: WorkerState
    pid: int | None = None
    host: str | None = None
    heartbeat_age_s: float | None = None
    damage: tuple[str, ...] = ()
    """What is wrong with the files that it was told from."""

    @property
    def has_worker(self) -> bool:
        """Whether a worker has the run in hand, be it a silent one."""
        return self.state in {WorkerState.ALIVE, WorkerState.SILENT}


class RunLock:
    """The worker's hold on a run; given back by the kernel however the worker ends."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            RunBusyError: another worker has it.
            RunError: it can't be made or locked, such as in a run directory that can't be written.
        """
        try:
            # A FIFO in its place must not block.
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
        # A reader that looks whether the lock is held has it for an instant: try again.
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
        """Give the lock back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class Heartbeat:
    """Rewrites the heartbeat file every two seconds from a thread of its own."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Write the first beat and go on from a thread."""
        self._write()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_EVERY_S):
            self._write()

    def _write(self) -> None:
        content = orjson.dumps(
            {"time": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
        )
        try:
            replace_file(self._run.heartbeat, content, durable=False)
        except OSError:
            # A full disk must not end the tuning from here: a missed beat shows as `silent`, and
            # the worker meets the same disk at its next event, where it is told.
            return


def probe_liveness(run: RunDirectory, now: float | None = None) -> Liveness:
    """Tell whether the run's worker lives.

    Args:
        run: the run.
        now: the present time in seconds since the epoch; the clock's when not given.
    """
    beat, problem = _read_heartbeat(run)
    damage = () if problem is None else (f"{run.heartbeat}: {problem}",)
    pid, host = beat.get("pid"), beat.get("host")
    age = (time.time() if now is None else now) - beat["time"] if "time" in beat else None
    here = host is None or host == socket.gethostname()

    def found(state: WorkerState) -> Liveness:
        return Liveness(state, pid, host, age, damage)

    if here and _lock_is_held(run):
        silent = age is not None and age > SILENT_AFTER_S
        # Whoever diagnoses a run that has ended holds its lock, and no worker's heart beats.
        if not (silent and last_event_type(run) == "run_finished"):
            return found(WorkerState.SILENT if silent else WorkerState.ALIVE)
    last = last_event_type(run)
    if last == "run_finished":
        return found(WorkerState.FINISHED)
    # A lost or damaged heartbeat is no new run's: whoever waited for its worker would wait forever.
    if not beat and problem is None and last is None:
        return found(WorkerState.STARTING)
    # flock may not cross the nodes of a cluster: there the heartbeat is all there is.
    if not here and age is not None and age <= DEAD_AFTER_S:
        return found(WorkerState.SILENT if age > SILENT_AFTER_S else WorkerState.ALIVE)
    return found(WorkerState.DEAD)


def _read_heartbeat(run: RunDirectory) -> tuple[dict[str, Any], str | None]:
    """Return the heartbeat, empty where there is none, and what is wrong with it."""
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
        # None is there, or none that anybody could hold.
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def last_event_type(run: RunDirectory) -> str | None:
    """Return the type of the last complete event, reading only the log's end.

    A diagnosis doesn't count: it may follow a run's end, which then still is its end.
    """
    try:
        with open_regular(run.events) as file:
            size = file.seek(0, os.SEEK_END)
            span = min(size, 1 << 16)
            while span:
                file.seek(size - span)
                lines = file.read(span).split(b"\n")[:-1]
                # The first line of a part of the log may be cut.
                whole = lines if span == size else lines[1:]
                for line in reversed(whole):
                    found = _type_of(line)
                    if found != "diagnosis":
                        return found
                if span == size:
                    return None
                span = min(size, span * 4)
    except OSError:
        # Whoever reads the whole log tells why it can't be read.
        return None
    return None


def _type_of(line: bytes) -> str | None:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    found = event.get("type") if isinstance(event, dict) else None
    return found if isinstance(found, str) else None
