"""`sf sweep`: ordinary runs, resumed after a kill, and the trade-off that they show."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from sf_tui.cli.sweep_plot import Mark, Tradeoff, draw_svg, draw_text
from sf_tui.errors import RunError
from sf_tui.profile import load_profile
from sf_tui.profile.grid import parse_grid
from sf_tui.report.sweep import SweepTasks, tasks_of
from sf_tui.run.directory import RunDirectory, runs_home
from sf_tui.run.labels import read_labels
from support import PATIENCE_S
from support.fork_client import ForkHost, SfProcess, SignalAt
from support.quick_run import PROFILE, events_of

DEPTHS = ["tasks.new.train.strategy=freeze", "tasks.new.train.freeze.layers=0,2"]
SHORT = [*DEPTHS, "train.steps=8"]


class ForkedWorker:
    """A worker of the fork host."""

    def __init__(self, process: SfProcess) -> None:
        self.poll = process.poll
        self._process = process

    def terminate(self) -> None:
        self._process.send(signal.SIGTERM)


def sweep_of(folder: Path, texts: list[str]) -> Any:
    from sf_tui.cli.sweep_trials import Sweep

    path = folder / "quick.toml"
    path.write_text(PROFILE)
    grid = parse_grid(texts)
    profiles = [load_profile(path, grid.overrides(point)) for point in grid.points()]
    return Sweep(grid, profiles, tasks_of(profiles[0]))


def table(sweep: Any) -> list[Any]:
    return [(r.number, r.state, r.exit_code, r.values, r.scores) for r in sweep.read()]


@pytest.fixture
def run_sweep(fork_host: ForkHost) -> Callable[..., list[int]]:
    pytest.importorskip("optuna")
    from sf_tui.cli.sweep_trials import Stop, run_trials

    def run(
        sweep: Any,
        stop: Stop | None = None,
        jobs: int = 1,
        started: Callable[[], Sequence[SignalAt]] = tuple,
    ) -> list[int]:
        def start(run: RunDirectory, *, environ: Mapping[str, str]) -> ForkedWorker:
            assert environ == {}
            signals = started()
            return ForkedWorker(fork_host.start("resume", run.path, "--no-ui", signals_at=signals))

        return run_trials(
            sweep, [None], jobs, stop or Stop(), lambda _: None, ["sf", "sweep"], start
        )

    return run


def test_a_sweep_whose_worker_was_killed_or_stopped_ends_with_the_same_table(
    tmp_path: Path,
    sf_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_sweep: Callable[..., list[int]],
) -> None:
    sweep = sweep_of(tmp_path, SHORT)
    front = run_sweep(sweep)
    whole = table(sweep)
    assert [row[1:3] for row in whole] == [("completed", 0)] * 2
    assert front
    assert all(read_labels(one.run.path)[0].tags == (sweep.id,) for one in sweep.read())

    monkeypatch.setenv("SF_HOME", str(sf_home.with_name("other-home")))
    again = sweep_of(tmp_path, SHORT)
    assert again.id == sweep.id
    signals = iter([signal.SIGKILL, signal.SIGTERM])

    def interfere() -> Sequence[SignalAt]:
        return [(next(signals), {"type": "step", "stage": "new", "step": 5})]

    run_sweep(again, started=interfere)
    assert sorted(row[1] for row in table(again)) == ["running", "stopped"]
    assert run_sweep(again) == front
    assert table(again) == whole
    assert all(events_of(one.run, "rewound") for one in again.read())

    # All is done: nothing is started.
    assert run_sweep(again, started=lambda: pytest.fail("a worker was started")) == front


def test_a_sweep_that_is_stopped_stops_its_worker_and_begins_no_other(
    tmp_path: Path, run_sweep: Callable[..., list[int]]
) -> None:
    from sf_tui.cli.sweep_trials import Stop

    sweep, stop = sweep_of(tmp_path, [*DEPTHS, "train.steps=200"]), Stop()

    def ask() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not any(events_of(one.run, "step") for one in sweep.read() if one.state):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        stop.signal = signal.SIGTERM

    asking = threading.Thread(target=ask)
    asking.start()
    assert run_sweep(sweep, stop) == []
    asking.join()
    assert sorted(row[1] for row in table(sweep)) == ["", "stopped"]


def test_an_error_at_the_start_of_a_trial_is_raised_and_ends_the_sweep(
    tmp_path: Path, run_sweep: Callable[..., list[int]]
) -> None:
    def fail() -> Sequence[SignalAt]:
        raise RunError("the disk is full", "make room")

    with pytest.raises(RunError, match="the disk is full"):
        run_sweep(sweep_of(tmp_path, DEPTHS), jobs=2, started=fail)


def test_a_trial_that_fails_leaves_the_others(
    tmp_path: Path, run_sweep: Callable[..., list[int]]
) -> None:
    sweep = sweep_of(tmp_path, [DEPTHS[0], "tasks.new.train.freeze.layers=1,9"])
    assert run_sweep(sweep, jobs=2) == [1]
    good, bad = sweep.read()
    assert good.done
    assert not bad.done
    assert (bad.state, bad.exit_code) == ("failed", 2)
    assert "9" in bad.reason


def test_other_values_or_another_profile_are_another_sweep(tmp_path: Path) -> None:
    ids = {
        sweep_of(tmp_path, texts).id
        for texts in (["seed=0,1"], ["seed=0,2"], ["seed=0,1", "train.steps=20"])
    }
    assert len(ids) == 3


def test_every_trial_is_checked_before_the_first_is_made(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sf_tui.cli.app import main

    path = tmp_path / "quick.toml"
    path.write_text(PROFILE)
    monkeypatch.setattr(sys, "argv", ["sf", "sweep", str(path), "--set", "train.steps=5,-5"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "trial 2 (train.steps=-5)" in capfd.readouterr().err
    assert not runs_home().exists()


def test_old_tasks_are_those_the_last_stage_can_cost() -> None:
    assert tasks_of(load_profile("biography-tiny")) == SweepTasks(("old",), "new")
    with_replay = load_profile("biography-tiny", ["replay_stage.steps=5"])
    assert tasks_of(with_replay) == SweepTasks(("old",), "new")


TRADEOFF = Tradeoff(
    "t<&\x1b[2J",
    "new task: n",
    "old: o",
    [Mark(1, 0.1, 0.9, True), Mark(2, 0.9, 0.2, True), Mark(3, 0.2, 0.2, False)],
)


def test_the_plot_places_the_marks() -> None:
    lines = draw_text(TRADEOFF, 60, 16)
    assert max(map(len, lines)) <= 60
    body = [line for line in lines if "|" in line]
    at = {
        sign: (row, line.index(sign))
        for row, line in enumerate(body)
        for sign in ("*1", "2*", "*2", "o3")
        if sign in line
    }
    second = at.get("*2") or at["2*"]
    # New to the right, old upward.
    assert at["*1"][1] < at["o3"][1] < second[1]
    assert at["*1"][0] < at["o3"][0] == second[0]


def test_one_mark_alone_can_be_drawn() -> None:
    alone = Tradeoff("t", "new", "old", [Mark(1, 0.0, 0.0, True)])
    assert any("*1" in line for line in draw_text(alone, 20, 8))
    assert "<circle" in draw_svg(alone)


def test_the_svg_is_well_formed_and_its_text_printable() -> None:
    text = draw_svg(TRADEOFF)
    assert "\x1b" not in text
    root = ET.fromstring(text)
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert [circle.get("fill") == "white" for circle in circles] == [False, False, True]


# Some forty workers one after the other: 38 minutes on a third of a core.
@pytest.mark.timeout(3600)
@pytest.mark.slow
def test_twelve_depths_killed_and_repeated_end_with_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    # Short stages: the same processes, kills and resumes as with long ones.
    command = [
        *(sys.executable, "-m", "sf_tui.cli", "sweep", "biography-tiny", "--json"),
        *("--set", "tasks.new.train.strategy=freeze", "--set", "model.config.num_hidden_layers=12"),
        *("--set", "tasks.new.train.freeze.layers=1..12"),
        *("--set", "tasks.pretrain.train.steps=60", "--set", "tasks.old.train.steps=40"),
        *("--set", "tasks.new.train.steps=30"),
    ]

    def scores(output: str) -> Any:
        found = json.loads(output)
        keep = ("trial", "values", "run", "state", "front", "scores")
        return [{key: trial[key] for key in keep} for trial in found["trials"]]

    monkeypatch.setenv("SF_HOME", str(tmp_path / "whole"))
    whole = subprocess.run(command, capture_output=True, text=True, check=True)
    monkeypatch.setenv("SF_HOME", str(tmp_path / "killed"))
    kills = 0
    for wanted in (1, 4, 9):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        for line in process.stderr:
            told = re.search(rb"trial (\d+) .*: training", line)
            runs = list((tmp_path / "killed" / "runs").glob("*"))
            if told and len(runs) >= wanted:
                time.sleep(3 * kills + 4)
                for child in psutil.Process(process.pid).children(recursive=True):
                    os.kill(child.pid, signal.SIGKILL)
                process.kill()
                kills += 1
                break
        process.wait()
        process.stderr.close()
    assert kills == 3
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert scores(again.stdout) == scores(whole.stdout)
