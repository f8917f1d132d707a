"""A recovery test beside the training: the same verdict, and a training that never notices."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
import torch

from sf_tui.errors import ProfileError
from sf_tui.profile import load_profile
from sf_tui.recovery.arms import ARMS
from sf_tui.recovery.progress import Progress
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import JsonObject, read_events
from sf_tui.run.state import fold
from sf_tui.vocabulary.commands import Command
from sf_tui.worker import beside, beside_process
from sf_tui.worker.beside_process import Gate
from sf_tui.worker.beside_room import free_bytes
from sf_tui.worker.beside_test import EVENT, GO_ON, HOLD, BesideTest
from sf_tui.worker.held_clock import HeldClock
from support.quick_run import (
    Begin,
    Operator,
    assert_well_told,
    events_of,
    work,
)
from support.short_ops import QUICK, shorten_arms
from worker.test_cancel import same_as

BESIDE = (*QUICK, "diagnose.beside=true", "diagnose.threads=1", "train.threads=1")


class Family:
    """Watches the processes that a run's worker, this process, has started for a test."""

    def __init__(self) -> None:
        self.seen: list[psutil.Process] = []

    def __call__(self, event: JsonObject) -> None:
        if event["type"] == "operation" and not self.seen:
            self.seen = [
                child
                for child in psutil.Process().children()
                if "sf_tui.worker.beside_process" in child.cmdline()
            ]

    def assert_gone(self, run: RunDirectory) -> None:
        (child,) = self.seen
        assert not child.is_running()
        assert not list(run.path.glob(".beside*"))


class Asking:
    """Asks for something once, after a step of the stage `new`."""

    def __init__(self, run: RunDirectory, step: int, action: str, **arguments: Any) -> None:
        self._run = run
        self._at = ("step", "new", step)
        self._asked = (action, arguments)
        self._is_done = False

    def __call__(self, event: JsonObject) -> None:
        here = (event["type"], event.get("stage"), event.get("step"))
        # A rollback leads to the same step again.
        if here == self._at and not self._is_done:
            self._is_done = True
            action, arguments = self._asked
            request_command(self._run, action, arguments, by="bob")


def answers_of(run: RunDirectory, action: str) -> list[tuple[str, str | None, int]]:
    """Return status, reason and step of each answer to an action."""
    return [
        (event["status"], event["reason"], event["step"])
        for event in events_of(run, "command")
        if event["action"] == action
    ]


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait until something is so, for 10 seconds at most."""
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Starting a process with torch takes seconds; it is what this feature is.
def test_training_goes_on_to_the_same_bits_and_the_verdict_is_that_of_a_test_in_the_worker(
    begin: Begin, plain: RunDirectory
) -> None:
    run = begin(*BESIDE)
    operator = Operator(run).at("new", 3, "freeze", layers=1).at("new", 5, "diagnose")
    family = Family()
    assert work(run, operator, family, Asking(run, 6, "diagnose")) == 0
    same_as(run, plain)
    assert_well_told(run)
    family.assert_gone(run)
    (found,) = events_of(run, "diagnosis")
    assert (found["stage"], found["step"]) == ("new", 5)
    accepted, refused, done = answers_of(run, "diagnose")
    assert accepted == ("accepted", None, 5)
    assert "already under way, asked for by new:5:diagnose" in str(refused[1])
    # The stage was over before the test was.
    assert (done[0], done[2]) == ("done", 8)
    assert str(done[1]).startswith(f"{found['verdict']} at step 5: ")
    order = [(e["type"], e.get("step")) for e in events_of(run) if e.get("stage") == "new"]
    assert order.index(("diagnosis", 5)) > order.index(("step", 8))
    assert order[-1][0] == "stage_finished"
    told = events_of(run, "operation")
    assert all(event["beside"] and event["step"] == 5 for event in told)
    assert {"examples", "neighbors", "edit"} <= {event["part"] for event in told}
    state = fold(read_events(run.events))
    assert state.beside is None
    assert state.diagnosis_holds

    inside = begin(*BESIDE, name="inside")
    operator = Operator(inside).at("new", 3, "freeze", layers=1)
    assert work(inside, operator.at("new", 5, "diagnose", beside=False)) == 0
    (expected,) = events_of(inside, "diagnosis")
    assert not any(event.get("beside") for event in events_of(inside, "operation"))
    timed = {"seq", "time", "seconds", "cost", "rounds_ended"}
    for one in (found, expected):
        for arm in one["arms"].values():
            arm.pop("seconds", None)
    assert {k: v for k, v in found.items() if k not in timed} == {
        k: v for k, v in expected.items() if k not in timed
    }


@pytest.mark.parametrize(
    ("step", "action", "status", "reason"),
    [
        (6, "cancel", "cancelled", "by bob; the training went on meanwhile"),
        (7, "stop", "failed", "the run was being stopped"),
        (6, "interpolate", "failed", "interpolate changes the weights"),
        (6, "rollback", "failed", "the stage was taken back"),
    ],
)
def test_it_ends_at_once(
    begin: Begin, plain: RunDirectory, step: int, action: str, status: str, reason: str
) -> None:
    run, family = begin(*BESIDE), Family()
    operator = Operator(run).at("new", 3, "freeze", layers=1)
    code = work(run, operator, family, Asking(run, 5, "diagnose"), Asking(run, step, action))
    family.assert_gone(run)
    assert answers_of(run, "diagnose")[1][:2] == (status, reason)
    assert not events_of(run, "diagnosis")
    assert code == (5 if action == "stop" else 0)
    if action == "stop":
        assert work(run) == 0
    if action in {"stop", "cancel"}:
        same_as(run, plain)
    assert_well_told(run)


def test_a_pause_holds_it_and_while_training_waits_anyway_nothing_runs_beside_it(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_arms(monkeypatch)
    held: list[bool] = []
    run = begin(*BESIDE)

    def watch(event: JsonObject) -> None:
        if event["type"] == "command" and (event["action"], event["status"]) == ("pause", "done"):
            request_command(run, "cancel", {"command": "diagnose"})
        if event["type"] == "command" and event["status"] == "cancelled":
            held.append(True)
            request_command(run, "diagnose")
        if event["type"] == "diagnosis":
            held.append(any(e.get("beside") for e in events_of(run, "operation")[1:]))
            request_command(run, "resume")

    assert work(run, Operator(run).at("new", 5, "diagnose"), watch, Asking(run, 6, "pause")) == 0
    # The first one was beside the training, the second one was not.
    assert held == [True, False]
    assert events_of(run, "operation")[0]["beside"]


def test_a_held_test_waits_without_losing_time_and_the_end_of_its_input_ends_it() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as lines, os.fdopen(writer, "wb") as worker:
        gate = Gate(lines)
        gate.wait()
        ended: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "_exit", ended.append)
            gate.follow()
            worker.write(HOLD)
            worker.flush()
            wait_for(lambda: not gate.is_open)
            began_s = gate.clock()
            test = threading.Thread(target=gate.wait)
            test.start()
            time.sleep(0.6)
            assert test.is_alive()
            worker.write(GO_ON)
            worker.flush()
            test.join(10)
            assert gate.clock() - began_s < 0.3
            worker.close()
            wait_for(lambda: bool(ended))
    assert ended == [1]


def test_what_the_run_says_of_the_time_of_a_held_test_leaves_out_the_wait(tmp_path: Path) -> None:
    command = Command("c-1", "diagnose", op="diagnose", stage="new", step=5)
    folder = tmp_path / "copy"
    folder.mkdir()
    test = BesideTest(command, folder, {"run": str(tmp_path)}, os.environ)
    try:
        test.hold(True)
        time.sleep(0.6)
        test.hold(False)
        progress = test.operation.progress(Progress("examples"))
    finally:
        test.end()
    assert progress is not None
    assert progress.elapsed_s <= 0.3


def test_the_time_of_a_test_is_that_of_its_gate(
    plain: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_arms(monkeypatch)
    folder = plain.checkpoints / "new" / "step-000008"
    request = {
        "run": str(plain.path),
        "weights": str(folder),
        "task": "old",
        "seq": events_of(plain)[-1]["seq"],
        "examples": 4,
        "thorough": False,
        "time": 0,
    }
    out = BytesIO()
    gate = Gate(BytesIO())
    gate.clock = HeldClock(lambda: 7.0)
    beside_process.run_test(request, gate, beside_process.Messages(out))
    found = orjson.loads(out.getvalue().splitlines()[-1])[EVENT]
    # An arm that was skipped has none.
    assert {arm["seconds"] for arm in found["arms"].values()} - {None} == {0.0}


def test_the_process_ends_with_its_worker_before_it_has_loaded_anything() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sf_tui.worker.beside_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(b'{"run": "/nowhere"}\n')
    process.stdin.close()
    assert process.wait(30) == 1


@pytest.mark.slow  # a worker and a test in processes of their own
def test_a_kill_drops_it_and_the_resume_is_clean(begin: Begin, plain: RunDirectory) -> None:
    run = begin(*BESIDE)
    code = (
        "import os, sys; from pathlib import Path; from support.quick_run import *;"
        "run = RunDirectory(Path(sys.argv[1]));"
        "operator = Operator(run).at('new', 3, 'freeze', layers=1).at('new', 5, 'diagnose');\n"
        "def kill(event):\n"
        "    if event['type'] == 'step' and (event['stage'], event['step']) == ('new', 7):\n"
        "        import psutil; print(psutil.Process().children()[0].pid, flush=True)\n"
        "        os.kill(os.getpid(), 9)\n"
        "work(run, operator, kill)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(run.path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=False,
    )
    assert killed.returncode == -9
    child = int(killed.stdout)
    deadline = time.monotonic() + 30
    while psutil.pid_exists(child) and time.monotonic() < deadline:
        if psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    else:
        assert not psutil.pid_exists(child)
    assert list(run.path.glob(".beside*"))
    assert work(run) == 0
    assert not list(run.path.glob(".beside*"))
    assert answers_of(run, "diagnose")[1][:2] == ("failed", "the worker ended before it was done")
    assert not events_of(run, "diagnosis")
    same_as(run, plain)


def test_it_is_refused_without_room_and_its_device_must_exist(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(*QUICK, "train.steps=6")
    monkeypatch.setattr(beside, "free_bytes", lambda *_: 10**8)
    assert work(run, Operator(run).at("new", 5, "diagnose", beside=True)) == 0
    ((status, reason, _),) = answers_of(run, "diagnose")
    assert status == "refused"
    assert (
        "no room for a test beside the training on cpu: it takes 601 MB, and 100 MB are free"
        in str(reason)
    )

    other = begin(*BESIDE, "train.steps=6", "diagnose.device=cuda:9", name="other")
    assert work(other, Operator(other).at("new", 5, "diagnose")) == 0
    ((status, reason, _),) = answers_of(other, "diagnose")
    assert status == "refused"
    assert 'device = "cuda:9": there is no such device' in str(reason)


def test_a_process_that_dies_fails_its_command_alone(begin: Begin, plain: RunDirectory) -> None:
    run = begin(*BESIDE)

    def kill(event: JsonObject) -> None:
        # One step behind its start it has hardly loaded anything; what it does counts for nothing.
        if (event["type"], event.get("stage"), event.get("step")) == ("step", "new", 6):
            for child in psutil.Process().children():
                if "sf_tui.worker.beside_process" in child.cmdline():
                    child.kill()

    operator = Operator(run).at("new", 3, "freeze", layers=1).at("new", 5, "diagnose")
    assert work(run, operator, kill) == 0
    assert answers_of(run, "diagnose")[1][:2] == ("failed", "its process was ended by SIGKILL")
    same_as(run, plain)


def test_one_that_dies_in_an_arm_fails_its_command_and_the_training_takes_its_last_steps(
    begin: Begin, plain: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[BesideTest] = []

    class Noted(BesideTest):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            started.append(self)

    monkeypatch.setattr(beside, "BesideTest", Noted)
    killed_in: list[str] = []
    steps_after: list[int] = []
    run, family = begin(*BESIDE), Family()

    def kill(event: JsonObject) -> None:
        if event["type"] == "operation" and event["number"] and not killed_in:
            assert started[0].process.poll() is None
            killed_in.append(event["part"])
            started[0].process.kill()
            started[0].process.wait()
        elif event["type"] == "step" and event["stage"] == "new":
            if killed_in:
                steps_after.append(event["step"])
            elif started:
                # A step takes milliseconds: each waits until the test has more to report, so that
                # it is in an arm before the training is over.
                assert select.select([started[0].process.stdout], [], [], 60)[0]

    operator = Operator(run).at("new", 3, "freeze", layers=1).at("new", 1, "diagnose")
    assert work(run, operator, family, kill) == 0
    (arm,) = killed_in
    assert arm in {one.name for one in ARMS}
    assert steps_after[-1] == 8
    accepted, failed = answers_of(run, "diagnose")
    assert accepted == ("accepted", None, 1)
    assert failed == ("failed", "its process was ended by SIGKILL", steps_after[0])
    assert not events_of(run, "diagnosis")
    family.assert_gone(run)
    assert_well_told(run)
    same_as(run, plain)


def test_a_profile_of_several_processes_refuses_it(profile_file: Path) -> None:
    with pytest.raises(ProfileError, match="in several processes can't be tested"):
        load_profile(profile_file, ("diagnose.beside=true", "launch.processes=2"))
    assert load_profile(profile_file, ("diagnose.beside=true",)).diagnose.beside


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cpu", None, ""),
        ("cpu", "2,3", ""),
        ("cuda", None, "0"),
        ("cuda:1", None, "1"),
        ("cuda:1", "2,3", "3"),
        ("cuda:1", "GPU-8f2a,MIG-77", "MIG-77"),
    ],
)
def test_its_process_sees_its_device_alone(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str | None, expected: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = beside.environment_of(torch.device(device), 3)
    assert found["CUDA_VISIBLE_DEVICES"] == expected
    assert found["OMP_NUM_THREADS"] == "3"


def test_another_gpu_is_not_touched_to_learn_what_is_free_there() -> None:
    assert free_bytes(torch.device("cuda:1"), torch.device("cuda")) is None
    assert (free_bytes(torch.device("cpu"), torch.device("cuda")) or 0) > 0
