"""Five tasks in a row: the console names what is lost, and its advice comes to an end."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_objects
from sf_tui.run.liveness import WorkerState, probe_liveness
from support import RUN_PATIENCE_S
from support.pseudo_terminal import Terminal

Events = list[dict[str, Any]]

pytestmark = pytest.mark.timeout(RUN_PATIENCE_S)
SIZES = ((80, 24), (120, 40), (200, 60))
STRIP = slice(1, 6)
"""Rows in which the danger strip is, whatever the height of the header."""
SETTLED_S = 0.4
LOOKS_AT = (1 / 10, 5 / 6)
"""Shares of a stage after which the operator pauses the run and does what is suggested."""
MOST_IN_A_LOOK = 5
"""More suggestions at one step than there are protections, repairs and ways back."""
SMALL = """\
name = "five"
[model]
source = "{model}"
[biography]
people = 48
new_people = 10
[train]
learning_rate = 8e-4
batch_size = 24
steps = 60
threads = 1
[recover]
steps = 40
[anchor]
cache_size = 768
[probe]
every = 5
every_in_window = 5
budget = 1.0
"""
LARGE = """\
name = "five"
[model]
source = "starter:biography-mini"
[biography]
people = 400
train_share = 0.75
new_people = 25
question_form = "same"
[train]
learning_rate = 6e-4
batch_size = 48
steps = 100
threads = 1
[probe]
every = 10
every_in_window = 10
"""


def tasks_of(names: list[str], first: str) -> str:
    known = f'[[tasks]]\nname = "{names[0]}"\ndata = "{first}"\n'
    new = [
        f'[[tasks]]\nname = "{name}"\ndata = "biography:new-{number}"\n'
        for number, name in enumerate(names[1:], 2)
    ]
    return known + "".join(new)


class Operator:
    """Does what the danger strip suggests, and nothing else."""

    def __init__(self, terminal: Terminal, run: RunDirectory) -> None:
        self.terminal = terminal
        self.run = run
        self.pressed: list[tuple[str, int, str]] = []

    def events(self, kind: str | None = None) -> Events:
        if not self.run.events.exists():
            return []
        found = read_objects(self.run.events)
        return [event for event in found if kind is None or event["type"] == kind]

    def strip(self) -> str:
        return "\n".join(self.terminal.screen().splitlines()[STRIP])

    def suggested(self) -> str | None:
        """Return the key that the strip suggests first."""
        found = re.search(r"▸ (\w) \w", self.strip())
        return found[1] if found else None

    def answers(self) -> int:
        final = ("done", "failed", "refused")
        return sum(event["status"] in final for event in self.events("command"))

    def press(self, key: str) -> None:
        """Press a key, confirm what asks for it, and wait for the worker's answer."""
        before = self.answers()
        self.terminal.press(key)
        self.terminal.read(0.7)
        self._confirm()
        self._wait_for_answer(before)

    def press_pause(self) -> None:
        """Pause or go on, at once: a stage takes few seconds."""
        before = self.answers()
        self.terminal.press(" ")
        self._wait_for_answer(before)

    def _confirm(self) -> None:
        if re.search(r"\by  ?(send it|confirm|\w+, then hold)", self.terminal.screen()):
            self.terminal.press("y")
        elif "type yes" in self.terminal.screen():
            self.terminal.press("yes")
            self.terminal.read(0.7)
            self.terminal.press("\r")

    def _wait_for_answer(self, before: int) -> None:
        deadline = time.monotonic() + RUN_PATIENCE_S
        while self.answers() == before:
            assert time.monotonic() < deadline, self.terminal.screen()
            self.terminal.read(0.05)

    def follow(self) -> bool:
        """Do what is suggested; return whether anything was."""
        key = self.suggested()
        if key is None:
            return False
        self.press(key)
        last = self.events("command")[-1]
        self.pressed.append((last["stage"], last["step"], last["op"]))
        # Its own result is on the screen before the next one is read.
        self.terminal.read(1.0)
        return True

    def follow_to_the_end(self) -> None:
        """Do what is suggested until nothing is."""
        for _ in range(MOST_IN_A_LOOK):
            if not self.follow():
                return
        raise AssertionError(f"advice in a circle: {self.pressed}\n{self.terminal.screen()}")

    def settle(self) -> None:
        self.terminal.read_until_quiet(SETTLED_S)


def exact(measures: dict[str, Any]) -> float:
    return float(measures["exact_match"])


def lost_since_run(events: Events, probe: dict[str, Any]) -> dict[str, float]:
    """Return what each earlier task of a probe's stage had lost by then, since it was known."""
    known = {event["stage"]: event["known"] for event in events if event["type"] == "stage_started"}
    start: dict[str, float] = {}
    for event in events:
        if event["type"] != "probe" or event["step"] != 0:
            continue
        for task in known[event["stage"]]:
            start.setdefault(task, exact(event["metrics"][task]))
        if event["stage"] == probe["stage"]:
            break
    now = probe["metrics"]
    return {task: start[task] - exact(now[task]) for task in known[probe["stage"]]}


def assert_names_the_worst(strip: str, lost: dict[str, float]) -> None:
    """Assert that a strip names the task that lost most, with its interval and since when."""
    worst = max(lost.values())
    # Of tasks that lost as good as nothing, or as much, any may be named.
    fitting = [task for task, drop in lost.items() if drop >= worst - 0.03]
    named = [
        task
        for task in fitting
        if re.search(rf"\b{task} \d\.\d+ ± \d\.\d+.* since (the run began|start)", strip)
    ]
    assert named, f"{lost}\n{strip}"


def check_sizes(operator: Operator) -> None:
    """Compare the strip of a run that stands still with the log, at every size."""
    events = operator.events()
    lost = lost_since_run(events, [event for event in events if event["type"] == "probe"][-1])
    for size in SIZES:
        operator.terminal.resize(size)
        operator.settle()
        assert_names_the_worst(operator.strip(), lost)
        if size[0] >= 120:
            assert re.search(r"\d+ of \d+", operator.strip()), operator.strip()
    operator.terminal.resize(SIZES[1])
    operator.settle()


def check_replay(operator: Operator) -> None:
    """Go back through the probes of the run, and compare what the strip names with each."""
    events = operator.events()
    began = [event for event in events if event["type"] == "stage_started"]
    offsets = dict(
        zip(
            (event["stage"] for event in began),
            accumulate((event["steps"] for event in began), initial=0),
            strict=False,
        )
    )
    newest: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["type"] == "probe" and event["step"]:
            newest[offsets[event["stage"]] + event["step"]] = event
    seen: set[str] = set()
    places = sorted(newest, reverse=True)
    for place in places:
        operator.terminal.press("[")
        if places.index(place) % 5 and place != places[-1]:
            operator.terminal.read(0.05)
            continue
        operator.settle()
        probe = newest[place]
        lost = lost_since_run(events, probe)
        assert_names_the_worst(operator.strip(), lost)
        seen.add(probe["stage"])
    assert seen == set(offsets), "every stage was looked at"
    operator.terminal.press("\x1b")
    operator.settle()


@pytest.fixture
def started(
    request: pytest.FixtureRequest, sf_home: Path, tmp_path: Path
) -> Iterator[tuple[Operator, list[str]]]:
    """Start `sf run` of five tasks in a terminal."""
    names = ["old", "people-a", "people-b", "people-c", "people-d"]
    if request.param == "small":
        model = request.getfixturevalue("finished_run") / "model"
        text, first = SMALL.format(model=model), "biography:new-1"
    else:
        text, first = LARGE, "biography:old"
    profile = tmp_path / "five.toml"
    profile.write_text(text + tasks_of(names, first))
    run = RunDirectory(sf_home / "runs" / "five")
    arguments = ["-m", "sf_tui.cli", "run", str(profile), "--run-dir", str(run.path)]
    environ = {"SF_HOME": str(sf_home), "OMP_NUM_THREADS": "1"}
    terminal = Terminal(arguments, environ, SIZES[1])
    yield Operator(terminal, run), names
    terminal.end()
    live = probe_liveness(run)
    if live.state in {WorkerState.ALIVE, WorkerState.SILENT} and live.pid is not None:
        os.kill(live.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "started",
    [
        pytest.param("small", marks=pytest.mark.slow),
        pytest.param("large", marks=pytest.mark.slow),
    ],
    indirect=True,
)
def test_advice_is_followed_to_the_letter(
    started: tuple[Operator, list[str]], request: pytest.FixtureRequest
) -> None:
    operator, names = started
    looked: set[tuple[str, int]] = set()
    deadline = time.monotonic() + RUN_PATIENCE_S
    while not operator.events("run_finished"):
        assert time.monotonic() < deadline, operator.terminal.screen()
        operator.terminal.read(0.05)
        steps = operator.events("step")
        if not steps:
            continue
        stage, step = steps[-1]["stage"], steps[-1]["step"]
        whole = operator.events("stage_started")[-1]["steps"]
        new = {(stage, at) for at in LOOKS_AT if step >= at * whole} - looked
        if not new:
            continue
        looked |= new
        operator.press_pause()
        # The next frame comes within a second.
        operator.terminal.read(1.2)
        operator.settle()
        if (stage, LOOKS_AT[-1]) in new:
            check_sizes(operator)
        operator.follow_to_the_end()
        operator.press_pause()
    assert looked == {(name, at) for name in names[1:] for at in LOOKS_AT}
    operator.settle()
    check_sizes(operator)
    check_replay(operator)

    pressed = operator.pressed
    again = [entry for entry in pressed if pressed.count(entry) > 1]
    assert not again, f"advised twice at the same step: {pressed}"
    probes = operator.events("probe")
    last = {task: exact(measures) for task, measures in probes[-1]["metrics"].items()}
    start = exact(probes[0]["metrics"]["old"])
    assert set(last) == set(names)
    if "large" in request.node.name:
        # The small model's tasks interfere too much for any protection.
        assert last["old"] >= 0.9 * start, (last, pressed)
        assert min(last[name] for name in names[1:]) >= 0.9, (last, pressed)
    operator.terminal.press("q")
    assert operator.terminal.read_to_end() == 0
