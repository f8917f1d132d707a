"""`sf log` prints what happened in a run, as it happens, and survives what a log may hold."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sf_tui.cli.app import app
from sf_tui.errors import SfError
from sf_tui.run.events import read_events
from sf_tui.run.liveness import RunLock
from sf_tui.tui.activity import ActivityLog
from sf_tui.vocabulary.events import Rewound, RunFinished
from tui.written_run import WrittenRun


def sf(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def run(sf_home: Path) -> WrittenRun:
    written = WrittenRun(sf_home / "runs" / "one")
    written.begin(steps=40)
    written.begin_stage(steps=40)
    written.steps(1, 20)
    written.freeze(20)
    written.steps(21, 30)
    written.event(Rewound(stage="new", step=25, lost=5, reason="rollback", checkpoint=None))
    return written


def texts(*arguments: object) -> list[str]:
    done = sf("log", *arguments)
    assert done.exit_code == 0, done.output
    return [line.split("\t")[3] for line in done.stdout.splitlines()]


def test_lines_have_the_console_s_words(run: WrittenRun) -> None:
    console = ActivityLog()
    for event in read_events(run.run.events):
        console.add(event)
    said = [row.text for row in console.rows if row.kind != "action"]
    lines = texts("one")
    assert [line.removeprefix("warn: ") for line in lines if " by ana@" not in line] == said
    assert "freeze by ana@gpu7 pts/3: accepted @20" in lines
    assert "freeze by ana@gpu7 pts/3: done" in lines


@pytest.mark.usefixtures("run")
def test_a_line_has_time_place_kind_and_text() -> None:
    fields = sf("log", "one", "--kind", "rewind").stdout.strip().split("\t")
    assert fields[0].endswith("Z")
    assert fields[1:3] == ["new@25", "rewind"]
    assert fields[3] == "warn: back to step 25 (rollback): 5 steps lost"


@pytest.mark.usefixtures("run")
def test_lines_are_chosen_by_kind_word_stage_step_and_number() -> None:
    assert len(texts("one", "--kind", "step")) == 30
    assert texts("one", "--kind", "probe")[0].startswith("whole held-out splits: old 0.99 ± 0.")
    assert len(texts("one", "--kind", "step", "--since-step", 21)) == 10
    assert len(texts("one", "--kind", "step,probe", "-n", 3)) == 3
    assert texts("one", "--stage", "other") == []
    assert all("FREEZE" in line.upper() for line in texts("one", "--grep", "FREEZE"))
    assert len(texts("one", "--grep", "freeze")) == 2
    for wrong in (("--grep", "("), ("--kind", "sted"), ("--worker", "--json")):
        done = sf("log", "one", *wrong)
        assert isinstance(done.exception, SfError)
        assert done.exception.exit_code == 2


def test_the_end_belongs_to_the_last_steps(run: WrittenRun) -> None:
    run.event(RunFinished(status="completed", exit_code=0, metrics={}))
    assert "run completed, exit code 0" in texts("one", "--since-step", 20)
    assert "run completed, exit code 0" not in texts("one", "--since-step", 99)


def test_json_lines_are_the_events(run: WrittenRun) -> None:
    lines = sf("log", "one", "--kind", "all", "--json").stdout.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, run.seq + 1))


def test_damage_and_a_torn_line_are_not_printed_as_events(run: WrittenRun) -> None:
    before = texts("one", "--kind", "all")
    with run.run.events.open("ab") as file:
        file.write(b'{"type": "alert", "seq": 5, "level": "warn"')
    assert texts("one", "--kind", "all") == before
    with run.run.events.open("ab") as file:
        file.write(b"\nnot json\n")
    done = sf("log", "one", "--kind", "all")
    assert len(done.stdout.splitlines()) == len(before)
    assert done.stderr.count("damaged: ") == 2
    run.run.events.unlink()
    run.run.events.mkdir()
    assert isinstance(sf("log", "one").exception, SfError)


def test_following_ends_with_the_run_and_misses_nothing(run: WrittenRun) -> None:
    lock = RunLock(run.run)
    lock.acquire()

    def train() -> None:
        time.sleep(0.3)
        run.step(26)
        time.sleep(0.3)
        run.event(RunFinished(status="stopped", exit_code=5, metrics={}, reason="stopped by ana"))
        lock.release()

    thread = threading.Thread(target=train)
    thread.start()
    lines = texts("one", "-f", "--kind", "step,run", "-n", 1)
    thread.join()
    assert len(lines) == 3
    assert lines[0].startswith("loss ")
    assert lines[2] == "error: run stopped, exit code 5: stopped by ana"


def test_following_a_dead_worker_says_so_and_ends(run: WrittenRun) -> None:
    run.beat(age_s=1000)
    done = sf("log", "one", "-f")
    assert done.exit_code == 0
    assert "`sf resume one` continues it" in done.stderr


def test_the_worker_s_output_is_printed_with_each_state_of_a_progress_bar(run: WrittenRun) -> None:
    assert isinstance(sf("log", "one", "--worker").exception, SfError)
    run.run.worker_log.write_bytes(b"start\n 10%\r 90%\r100%\nwarning \xff\nlast")
    assert sf("log", "one", "--worker").stdout.splitlines() == [
        *("start", " 10%", " 90%", "100%", "warning \ufffd", "last")
    ]
    assert sf("log", "one", "--worker", "-n", 1).stdout == "last\n"
    assert sf("log", "one", "--worker", "--grep", "WARN").stdout == "warning \ufffd\n"
