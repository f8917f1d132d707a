"""A worker lives as long as its lock is held, and a real process holds it here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import orjson
import pytest

from sf_tui.errors import RunError
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventLog
from sf_tui.run.liveness import (
    DEAD_AFTER_S,
    SILENT_AFTER_S,
    Heartbeat,
    RunLock,
    WorkerState,
    last_event_type,
    probe_liveness,
)
from sf_tui.vocabulary.events import DiagnosisMade, Rewound, RunFinished, RunStarted, UnknownEvent

HOLDER = """\
import sys, time
from pathlib import Path
from sf_tui.run.directory import RunDirectory
from sf_tui.run.liveness import Heartbeat, RunLock
run = RunDirectory(Path(sys.argv[1]))
RunLock(run).acquire()
Heartbeat(run).start()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(run: RunDirectory) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def write_beat(run: RunDirectory, *, age_s: float, host: str | None = None, pid: int = 1) -> None:
    beat = {"time": time.time() - age_s, "host": host or socket.gethostname(), "pid": pid}
    run.heartbeat.write_bytes(orjson.dumps(beat))


def test_run_without_a_worker_is_starting(run: RunDirectory) -> None:
    assert probe_liveness(run).state is WorkerState.STARTING


def test_worker_with_lock_and_heartbeat_is_alive(
    run: RunDirectory, holder: subprocess.Popen[str]
) -> None:
    found = probe_liveness(run)
    assert (found.state, found.pid) == (WorkerState.ALIVE, holder.pid)
    assert found.host == socket.gethostname()
    assert found.heartbeat_age_s is not None
    assert found.heartbeat_age_s < SILENT_AFTER_S


def test_worker_whose_heart_has_stopped_is_silent_and_not_dead(
    run: RunDirectory, holder: subprocess.Popen[str]
) -> None:
    later = time.time() + DEAD_AFTER_S + 100
    assert probe_liveness(run, now=later).state is WorkerState.SILENT
    assert holder.poll() is None


def test_killed_worker_is_dead_at_once(run: RunDirectory, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert probe_liveness(run).state is WorkerState.DEAD
    RunLock(run).acquire()


def test_pid_that_is_taken_by_somebody_else_is_no_sign_of_life(run: RunDirectory) -> None:
    write_beat(run, age_s=1, pid=os.getpid())
    assert probe_liveness(run).state is WorkerState.DEAD


def test_last_word_of_the_log_says_finished(run: RunDirectory) -> None:
    write_beat(run, age_s=1)
    log = EventLog(run.events)
    log.append(RunFinished("completed", 0))
    assert probe_liveness(run).state is WorkerState.FINISHED
    log.append(Rewound("old", 3, "resumed"))
    assert probe_liveness(run).state is WorkerState.DEAD


def test_living_worker_of_a_run_that_was_stopped_once_is_alive(
    run: RunDirectory, holder: subprocess.Popen[str]
) -> None:
    EventLog(run.events).append(RunFinished("stopped", 5))
    assert probe_liveness(run).state is WorkerState.ALIVE
    assert holder.poll() is None


def test_run_that_is_diagnosed_after_its_end_is_still_finished(run: RunDirectory) -> None:
    log = EventLog(run.events)
    log.append(RunFinished("completed", 0))
    log.append(DiagnosisMade("none", "old", 1.0))
    log.append(DiagnosisMade("real", "old", 0.0))
    log.close()
    write_beat(run, age_s=SILENT_AFTER_S + 1)
    assert last_event_type(run) == "run_finished"
    assert probe_liveness(run).state is WorkerState.FINISHED
    # While the next one is at work it holds the lock.
    lock = RunLock(run)
    lock.acquire()
    try:
        assert probe_liveness(run).state is WorkerState.FINISHED
    finally:
        lock.release()


@pytest.mark.parametrize(
    ("age_s", "state"),
    [
        (1.0, WorkerState.ALIVE),
        (SILENT_AFTER_S + 5, WorkerState.SILENT),
        (DEAD_AFTER_S + 5, WorkerState.DEAD),
    ],
)
def test_worker_on_another_host_is_judged_by_its_heartbeat(
    run: RunDirectory, age_s: float, state: WorkerState
) -> None:
    write_beat(run, age_s=age_s, host="another-node")
    assert probe_liveness(run).state is state


def test_second_worker_is_refused_and_the_first_goes_on(
    run: RunDirectory, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(RunError, match="another worker") as caught:
        RunLock(run).acquire()
    assert "sf attach" in caught.value.hint
    assert probe_liveness(run).state is WorkerState.ALIVE
    assert holder.poll() is None


def test_lock_is_given_back(run: RunDirectory) -> None:
    lock = RunLock(run)
    for _ in range(2):
        lock.acquire()
        lock.release()
    lock.release()


def test_looking_at_a_run_never_keeps_its_worker_from_starting(run: RunDirectory) -> None:
    looking = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom pathlib import Path\nfrom sf_tui.run.directory import RunDirectory\n"
            "from sf_tui.run.liveness import probe_liveness\n"
            "run = RunDirectory(Path(sys.argv[1]))\nprint(flush=True)\n"
            "while True: probe_liveness(run)",
            str(run.path),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert looking.stdout is not None
        looking.stdout.readline()
        for _ in range(50):
            lock = RunLock(run)
            lock.acquire()
            lock.release()
    finally:
        looking.kill()
        looking.wait()
        looking.stdout.close()


def test_heart_beats_once_at_the_start_and_stops_when_told(run: RunDirectory) -> None:
    heartbeat = Heartbeat(run)
    heartbeat.start()
    assert orjson.loads(run.heartbeat.read_bytes())["pid"] == os.getpid()
    heartbeat.stop()
    assert "heartbeat" not in [thread.name for thread in threading.enumerate()]
    assert not list(run.path.glob(".heartbeat*"))


def test_damaged_or_lost_heartbeat_is_no_run_that_is_starting(run: RunDirectory) -> None:
    for damaged in (b'{"time": 17', b"", b"[]", b'{"time": null}'):
        run.heartbeat.write_bytes(damaged)
        assert probe_liveness(run).state is WorkerState.DEAD
    run.heartbeat.unlink()
    assert probe_liveness(run).state is WorkerState.STARTING
    EventLog(run.events).append(RunStarted([]))
    assert probe_liveness(run).state is WorkerState.DEAD


def test_last_event_is_found_behind_a_long_line_and_before_a_torn_one(run: RunDirectory) -> None:
    assert last_event_type(run) is None
    log = EventLog(run.events)
    log.append(UnknownEvent("first", {}))
    assert last_event_type(run) == "first"
    log.append(UnknownEvent("long", {"text": "x" * (1 << 18)}))
    assert last_event_type(run) == "long"
    log.append(UnknownEvent("last", {}))
    with run.events.open("ab") as file:
        file.write(b'{"type": "torn')
    assert last_event_type(run) == "last"
