"""`sf act` and `sf stop`: with a worker that takes its time, one that ends, and none."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from sf_tui.cli.act import act, stop
from sf_tui.cli.waiting import ActionTimeoutError, Patience, send_and_wait
from sf_tui.errors import RunError, UsageError
from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.commands import CommandTail
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventLog
from sf_tui.vocabulary.commands import ACCEPTED, DONE, Command
from sf_tui.vocabulary.events import Alert, OperationProgress, RunFinished


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    profile = dump_profile(load_profile("biography-mini"))
    return RunDirectory.create(tmp_path / "ended", profile_text=profile, profile_name="p", argv=[])


def end(run: RunDirectory, status: str, exit_code: int) -> None:
    log = EventLog(run.events)
    log.append(RunFinished(status, exit_code))
    log.close()


# Without a worker


@pytest.mark.parametrize(
    ("status", "action", "message", "hint"),
    [
        (
            "completed",
            "interpolate",
            "{} is completed: no worker can interpolate",
            "`sf recover {} --by interpolate --out DIR` does this without a worker",
        ),
        (
            "completed",
            "freeze",
            "{} is completed: no worker can freeze",
            "`sf diagnose {0}` tests what was lost, `sf recover {0} --out DIR` repairs it",
        ),
        (
            "guard_failed",
            "diagnose",
            "{} is completed, with a failed guard: no worker can diagnose",
            "`sf diagnose {}` does this without a worker",
        ),
        (
            "stopped",
            "freeze",
            "{} was stopped: no worker can freeze",
            "`sf resume {}` continues it from its last checkpoint",
        ),
        (
            "failed",
            "diagnose",
            "{} has failed: no worker can diagnose",
            "`sf diagnose {0}` does this without a worker; `sf resume {0}` continues it from its "
            "last checkpoint",
        ),
    ],
)
def test_act_on_a_run_that_has_ended_names_the_way_on(
    run: RunDirectory, status: str, action: str, message: str, hint: str
) -> None:
    end(run, status, 0)
    with pytest.raises(RunError) as caught:
        act(str(run.path), action, set_=None)
    assert caught.value.message == message.format(run.path)
    assert caught.value.hint == hint.format(run.path)
    assert run.commands.read_bytes() == b""


@pytest.mark.parametrize(
    ("status", "said", "next_"),
    [
        ("completed", "is completed already", "sf diagnose"),
        ("guard_failed", "is completed, with a failed guard already", "sf diagnose"),
        ("stopped", "was stopped already", "sf resume"),
    ],
)
def test_stop_on_a_run_that_has_ended_says_so_and_succeeds(
    run: RunDirectory, status: str, said: str, next_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    end(run, status, 0)
    stop(str(run.path))
    told = capsys.readouterr().err
    assert said in told
    assert next_ in told
    assert ("resume" in told) == (status == "stopped")
    assert run.commands.read_bytes() == b""


# With a worker


class SlowWorker:
    """Answers commands as a worker on another host would, some time after it accepted them."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.takes_s = 0.0
        self.dies = False
        self.shows: list[OperationProgress] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.beat()

    def beat(self, age_s: float = 0.0) -> None:
        beat = {"time": time.time() - age_s, "host": f"not-{socket.gethostname()}", "pid": 1}
        self.run.heartbeat.write_bytes(orjson.dumps(beat))

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        tail, log = CommandTail(self.run.commands), EventLog(self.run.events)
        while not self._ended.wait(0.01):
            for line in tail.poll():
                command = Command.from_line(line)
                log.append(command.answer(ACCEPTED))
                for progress in self.shows:
                    log.append(replace(progress, id=progress.id or command.id))
                self._ended.wait(self.takes_s)
                if self.dies:
                    self.beat(age_s=3600)
                else:
                    log.append(command.answer(DONE, "as asked"))
        log.close()


@pytest.fixture
def worker(run: RunDirectory) -> Iterator[SlowWorker]:
    worker = SlowWorker(run)
    yield worker
    worker.end()


def fast_clock() -> Callable[[], float]:
    """Return a clock on which every look takes five seconds."""
    now = 0.0

    def look() -> float:
        nonlocal now
        now += 5.0
        return now

    return look


def test_act_waits_for_the_end_once_the_worker_has_accepted(worker: SlowWorker) -> None:
    worker.takes_s = 1.0
    worker.start()
    told: list[str] = []
    answer = send_and_wait(worker.run, "freeze", {}, Patience(30, told.append, clock=fast_clock()))
    assert answer is not None
    assert (answer.status, answer.reason) == ("done", "as asked")
    assert told[0] == "freeze: kept for the first step; the worker is starting"
    assert "freeze accepted, not done yet after" in told[1]
    # Far past the 30 s in which it had to be accepted.
    assert float(told[-1].split()[-2]) > 60


def test_a_timeout_has_its_own_exit_code_and_cancels_nothing(worker: SlowWorker) -> None:
    worker.takes_s = 60.0
    worker.start()
    with pytest.raises(ActionTimeoutError, match=r"freeze not done within 0.5 s") as caught:
        send_and_wait(worker.run, "freeze", {}, Patience(30, print, 0.5))
    assert caught.value.exit_code == 124
    assert "the worker continues with it" in caught.value.hint


def test_a_worker_that_does_not_accept_in_time_is_told_apart(worker: SlowWorker) -> None:
    with pytest.raises(RunError, match=r"freeze not answered within 0.2 s") as caught:
        send_and_wait(worker.run, "freeze", {}, Patience(0.2, print))
    assert caught.value.exit_code == 1
    assert caught.value.hint == "the worker is still starting and carries it out at its first step"
    EventLog(worker.run.events).append(Alert("info", "note", "the worker has begun"))
    with pytest.raises(RunError, match=r"freeze not answered within 0.2 s") as caught:
        send_and_wait(worker.run, "freeze", {}, Patience(0.2, print))
    assert "it is queued and may still be carried out" in caught.value.hint


def test_a_worker_that_dies_ends_the_wait(worker: SlowWorker) -> None:
    worker.dies = True
    worker.start()
    with pytest.raises(RunError, match="the worker ended before freeze was done"):
        send_and_wait(worker.run, "freeze", {}, Patience(30, print))


def test_without_waiting_the_command_is_only_sent(worker: SlowWorker) -> None:
    assert send_and_wait(worker.run, "freeze", {}, Patience(0, print)) is None
    assert [line["action"] for line in CommandTail(worker.run.commands).poll()] == ["freeze"]


def at(part: str, **more: Any) -> OperationProgress:
    return OperationProgress(id="", op="diagnose", stage="new", step=85, part=part, **more)


def test_act_prints_how_far_an_operation_is(worker: SlowWorker) -> None:
    worker.shows = [
        at("", left_s=45.0),
        at("examples", number=1, parts=3, total=40, left_s=44.0),
        at("examples", number=1, parts=3, done=1, total=40, left_s=43.0),
        at("neighbors", number=2, parts=3, done=120, total=457, score=0.61, left_s=34.2),
    ]
    worker.takes_s = 0.3
    worker.start()
    told: list[str] = []
    send_and_wait(worker.run, "diagnose", {}, Patience(30, told.append))
    assert told[1:] == [
        "diagnose: training waits, about 45 s left",
        "diagnose: about 44 s left, 1 of 3 examples, step 0/40",
        "diagnose: about 34 s left, 2 of 3 neighbors, step 120/457, score 0.610",
    ]


def test_act_says_that_training_goes_on_beside_a_test(worker: SlowWorker) -> None:
    worker.shows = [at("", beside=True)]
    worker.takes_s = 0.2
    worker.start()
    told: list[str] = []
    send_and_wait(worker.run, "diagnose", {}, Patience(30, told.append))
    assert told[1:] == ["diagnose: training goes on"]


def test_waiting_behind_an_operation_does_not_count_as_no_answer(run: RunDirectory) -> None:
    worker = SlowWorker(run)
    log = EventLog(run.events)
    told: list[str] = []

    def clock() -> float:
        # Each look at the clock takes half a second, and finds news of the operation.
        clock_at[0] += 0.5
        if clock_at[0] < 8:
            log.append(replace(at("neighbors", left_s=30.0), id="c-other"))
        return clock_at[0]

    clock_at = [0.0]
    with pytest.raises(RunError, match="not answered"):
        send_and_wait(worker.run, "freeze", {}, Patience(3, told.append, clock=clock))
    assert clock_at[0] > 8
    assert told[1:] == ["freeze: waits until diagnose is done: about 30 s left, neighbors"]


@pytest.mark.parametrize("cancels", [False, True])
def test_an_interrupt_ends_the_command_in_the_worker_or_says_how(
    worker: SlowWorker, cancels: bool
) -> None:
    looks = iter(range(3))

    def clock() -> float:
        if next(looks, None) is None:
            raise KeyboardInterrupt
        return 0.0

    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        send_and_wait(
            worker.run, "diagnose", {}, Patience(9, told.append, cancels=cancels, clock=clock)
        )
    sent = CommandTail(worker.run.commands).poll()
    if cancels:
        assert [line["action"] for line in sent] == ["diagnose", "cancel"]
        assert sent[1]["arguments"] == {"command": sent[0]["id"]}
    else:
        assert [line["action"] for line in sent] == ["diagnose"]
        assert f"sf act {worker.run.path} cancel {sent[0]['id']}" in told[-1]


def test_a_cancel_names_its_command(worker: SlowWorker) -> None:
    act(str(worker.run.path), "cancel", "diagnose", set_=None, wait=0)
    (line,) = CommandTail(worker.run.commands).poll()
    assert (line["action"], line["arguments"]) == ("cancel", {"command": "diagnose"})
    with pytest.raises(UsageError, match="freeze takes no such argument"):
        act(str(worker.run.path), "freeze", "diagnose", set_=None, wait=0)
