"""The console as a user has it: `sf run` in a terminal, freeze, leave, come back, stop."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventTail, read_objects
from sf_tui.run.liveness import WorkerState, probe_liveness
from support import PATIENCE_S
from support.pseudo_terminal import Terminal

LOST = 75
MANY_STEPS = ("--set", "tasks.0.train.steps=20000")
"""More than are taken before a test ends the run."""

OpenSf = Callable[..., Terminal]


@contextmanager
def terminals(home: Path) -> Iterator[OpenSf]:
    """Start `sf` with arguments on pseudo-terminals, and end all of them with their workers."""
    opened: list[Terminal] = []

    def open_(*arguments: str | Path) -> Terminal:
        environ = {"SF_HOME": str(home), "OMP_NUM_THREADS": "1"}
        opened.append(Terminal(["-m", "sf_tui.cli", *map(str, arguments)], environ))
        return opened[-1]

    try:
        yield open_
    finally:
        for terminal in opened:
            terminal.end()
        for run_json in (home / "runs").glob("*/run.json"):
            end_worker(RunDirectory(run_json.parent))


@pytest.fixture
def open_sf(sf_home: Path) -> Iterator[OpenSf]:
    """Start `sf` with arguments on a pseudo-terminal."""
    with terminals(sf_home) as opening:
        yield opening


@dataclass(frozen=True)
class GoingOn:
    """A run that goes on until its module's end, with the terminal that it was started in."""

    run: RunDirectory
    first: Terminal
    open_sf: OpenSf


@pytest.fixture(scope="module")
def going_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoingOn]:
    home = tmp_path_factory.mktemp("going-on")
    path = home / "runs" / "going-on"
    with terminals(home) as opening:
        first = opening("run", "biography-tiny", "--run-dir", path, *MANY_STEPS)
        run = RunDirectory(path)
        wait_for(run, is_step)
        yield GoingOn(run, first, opening)


def end_worker(run: RunDirectory) -> None:
    live = probe_liveness(run)
    if live.state in {WorkerState.ALIVE, WorkerState.SILENT} and live.pid is not None:
        os.kill(live.pid, signal.SIGKILL)


def wait_for(
    run: RunDirectory, wanted: Callable[[dict[str, Any]], bool], patience_s: float = PATIENCE_S
) -> dict[str, Any]:
    """Return the first event that is wanted, once it is in the log."""
    tail = EventTail(run.events)
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        for event in tail.iterate_objects():
            if wanted(event):
                return event
        time.sleep(0.02)
    raise AssertionError("the event did not come")


def is_step(event: dict[str, Any]) -> bool:
    return bool(event["type"] == "step")


def commands_of(run: RunDirectory, op: str) -> list[dict[str, Any]]:
    return [
        event
        for event in read_objects(run.events)
        if event["type"] == "command" and event["op"] == op
    ]


def test_a_run_goes_on_through_freeze_leave_attach_and_ends_at_a_stop(
    open_sf: OpenSf, sf_home: Path
) -> None:
    path = sf_home / "runs" / "journey"
    run = RunDirectory(path)
    terminal = open_sf("run", "biography-tiny", "--run-dir", path, *MANY_STEPS)
    # Drawn while the worker imports torch, which this process never does.
    terminal.read_until("starting the worker")
    assert "torch" not in Path(f"/proc/{terminal.process.pid}/maps").read_text()
    terminal.read_until("grad norm")
    wait_for(run, is_step)
    terminal.read_until("tokens/s")

    terminal.press("f")
    terminal.read_until("freeze: requested → accepted")
    accepted, done = commands_of(run, "freeze")
    assert (accepted["status"], done["status"]) == ("accepted", "done")
    terminal.read_until("frozen")

    terminal.press("q")
    assert terminal.read_to_end() == 0
    assert "sf attach journey" in terminal.data.decode()
    left_at = probe_liveness(run)
    assert left_at.state is WorkerState.ALIVE
    last = [event for event in read_objects(run.events) if event["type"] == "step"][-1]["seq"]
    wait_for(run, lambda event: event["type"] == "step" and event["seq"] > last + 5)

    again = open_sf("attach", "journey")
    again.read_until("freeze: requested → accepted")
    again.read_until("frozen")
    again.press(":")
    again.read_until("esc close")
    again.press("stop")
    again.read(0.6)
    again.press("\r")
    again.read_until("type yes")
    again.press("yes")
    again.read(0.6)
    again.press("\r")
    finished = wait_for(run, lambda event: event["type"] == "run_finished")
    assert (finished["status"], finished["exit_code"]) == ("stopped", 5)
    again.read_until("stopped exit 5")
    again.press("q")
    assert again.read_to_end() == 0

    seqs = [event["seq"] for event in read_objects(run.events)]
    assert seqs == list(range(1, len(seqs) + 1))
    frozen = [
        [(layer["name"], layer["relative_update"]) for layer in event["layers"] if layer["frozen"]]
        for event in read_objects(run.events)
        if event["type"] == "drift" and any(layer["frozen"] for layer in event["layers"])
    ]
    assert frozen
    assert all(layers == frozen[0] for layers in frozen), "what is frozen does not move"


def test_a_lost_terminal_costs_the_run_nothing(going_on: GoingOn) -> None:
    run = going_on.run
    chance = random.Random(0)
    for attempt in range(2):
        terminal = going_on.first if attempt == 0 else going_on.open_sf("attach", run.id)
        terminal.read_until("grad norm")
        terminal.read(chance.uniform(0.0, 1.0))
        if attempt % 2:
            terminal.process.kill()
            terminal.process.wait()
        else:
            terminal.hang_up()
            assert terminal.process.wait(PATIENCE_S) == LOST
        assert probe_liveness(run).state is WorkerState.ALIVE
    last = list(read_objects(run.events))[-1]["seq"]
    wait_for(run, lambda event: event["seq"] > last + 10)
    seqs = [event["seq"] for event in read_objects(run.events)]
    assert seqs == list(range(1, len(seqs) + 1))


@pytest.mark.slow
def test_a_run_that_can_not_begin_says_why_and_leaves_nothing(
    open_sf: OpenSf, sf_home: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    path = sf_home / "runs" / "broken"
    terminal = open_sf(
        "run", "biography-mini", "--run-dir", path, "--set", f"model.source={broken}"
    )
    assert terminal.read_to_end() == 2
    assert "broken" in terminal.data.decode()
    assert not path.exists()


def test_without_a_terminal_attach_says_what_to_do_instead(
    run_sf: Callable[..., Any], finished_run: Path
) -> None:
    done = run_sf("attach", finished_run)
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
    assert "sf show" in done.stderr


@pytest.mark.slow
def test_a_running_model_is_asked_from_the_console(going_on: GoingOn) -> None:
    run = going_on.run
    wait_for(run, lambda event: event["type"] == "probe" and event["step"] > 0)
    terminal = going_on.open_sf("attach", run.id)
    terminal.read_until("tokens/s")
    terminal.press("e")
    # A list, and the question that is chosen in it with its answer now.
    terminal.read_until("right -> wrong")
    written = wait_for(run, lambda event: event["type"] == "answers")
    assert (run.path / written["path"]).is_file()
    terminal.read(0.6)
    terminal.press("e")
    terminal.read_until("ask the model")
    terminal.press("Where does anyone live?")
    terminal.read(0.6)
    terminal.press("\r")
    answered = wait_for(run, lambda event: event["type"] == "question")
    assert answered["question"] == "Where does anyone live?"
    terminal.read_until("your question")
    terminal.press("\x1b")
    terminal.read(0.6)
    terminal.press("q")
    assert terminal.read_to_end() == 0
