"""Whatever a run's files hold, reading commands show what they can and never fail by themselves."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sf_tui.cli.app import app
from sf_tui.cli.launching import finished_exit_code, repair_before_resume
from sf_tui.errors import SfError
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventLog, read_objects
from sf_tui.run.reading import read_state
from sf_tui.tui.feed import RunFeed, summarize_run
from sf_tui.vocabulary.events import CommandAnswered, Rewound, RunFinished, UnknownEvent
from tui.written_run import WrittenRun

GARBAGE: list[Any] = [None, True, -3, 10**9, 2**64 - 1, 1e308, "x", "", [], ["x"], {}, {"a": [1]}]


@pytest.fixture
def home(sf_home: Path) -> Path:
    """Return the folder of two runs, `good` and `bad`."""
    for name in ("good", "bad"):
        written = WrittenRun(sf_home / "runs" / name)
        written.begin(steps=40)
        written.begin_stage(steps=40)
        written.steps(1, 12)
        written.freeze(12)
        written.take_anchor(12)
        written.steps(13, 20)
        written.name_neighbors()
        written.diagnose(20)
        written.event(Rewound(stage="new", step=15, lost=5, reason="rollback", checkpoint=None))
        written.steps(16, 20)
        written.event(RunFinished(status="stopped", exit_code=5, metrics={}, reason="stopped"))
    return sf_home / "runs"


def lists_all(*, bad_is_damaged: bool = True) -> None:
    done = CliRunner().invoke(app, ["runs", "--json"])
    assert done.exit_code == 0, done.exception
    rows = {row["run"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {"good", "bad"}
    assert rows["good"]["state"] == "stopped"
    assert rows["good"]["damage"] == []
    if bad_is_damaged:
        assert rows["bad"]["state"] == "damaged"
        assert rows["bad"]["damage"]
    text = CliRunner().invoke(app, ["runs"])
    assert text.exit_code == 0
    assert "good" in text.stdout
    assert not bad_is_damaged or "damaged: " in text.stderr


def shows(name: str = "bad") -> None:
    for arguments in (["show", name], ["show", name, "--json"]):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0 or isinstance(done.exception, SfError), done.exception
        if done.exit_code == 0 and "--json" in arguments:
            json.loads(done.stdout, parse_constant=lambda word: pytest.fail(word))


Change = Callable[[Path], object]
FILES: dict[str, Change] = {
    "run.json list": lambda run: (run / "run.json").write_text("[]"),
    "run.json text schema": lambda run: (run / "run.json").write_text('{"schema": "one"}'),
    "run.json null id": lambda run: (run / "run.json").write_text('{"schema": 1, "id": null}'),
    "run.json newer": lambda run: (run / "run.json").write_text('{"schema": 99}'),
    "run.json empty": lambda run: (run / "run.json").write_text(""),
    "beat time null": lambda run: (run / "heartbeat").write_text('{"time": null}'),
    "beat time text": lambda run: (run / "heartbeat").write_text('{"time": "now"}'),
    "beat NaN": lambda run: (run / "heartbeat").write_text('{"time": NaN}'),
    "beat pid text": lambda run: (run / "heartbeat").write_text('{"time": 1, "pid": "x"}'),
    "beat list": lambda run: (run / "heartbeat").write_text("[1]"),
    "beat folder": lambda run: (run / "heartbeat").mkdir(),
    "log FIFO": lambda run: ((run / "events.jsonl").unlink(), os.mkfifo(run / "events.jsonl")),
    "log folder": lambda run: ((run / "events.jsonl").unlink(), (run / "events.jsonl").mkdir()),
    "log missing": lambda run: (run / "events.jsonl").unlink(),
}


@pytest.mark.parametrize("change", FILES.values(), ids=FILES)
def test_a_run_with_a_damaged_file_hides_no_other(home: Path, change: Change) -> None:
    change(home / "bad")
    lists_all()
    shows()
    summarize_run(RunDirectory(home / "bad"), 0.0)


@pytest.mark.parametrize("kind", ["folder", "FIFO", "missing", "loop"])
def test_an_odd_lock_is_read_past(home: Path, kind: str) -> None:
    lock = home / "bad" / "lock"
    lock.unlink()
    if kind == "folder":
        lock.mkdir()
    elif kind == "FIFO":
        os.mkfifo(lock)
    elif kind == "loop":
        lock.symlink_to(lock)
    lists_all(bad_is_damaged=False)
    shows()
    if kind != "missing":
        with pytest.raises(SfError, match="lock"):
            repair_before_resume(RunDirectory(home / "bad"))


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32))
def test_any_change_of_the_log_is_survived_and_repaired(home: Path, seed: int) -> None:
    dice = random.Random(seed)
    run = RunDirectory(home / "bad")
    shutil.copyfile(home / "good" / "events.jsonl", run.events)
    events: list[Any] = [orjson.loads(line) for line in run.events.read_bytes().splitlines()]
    for _ in range(dice.choice((1, 1, 3))):
        place = dice.randrange(len(events))
        event = events[place]
        how = dice.choice(("drop", "retype", "nest", "swap", "double", "lose", "junk"))
        if how == "lose":
            del events[place]
        elif how == "double":
            events.insert(dice.randrange(len(events)), copy.deepcopy(event))
        elif how == "swap":
            other = dice.randrange(len(events))
            events[place], events[other] = events[other], event
        elif how == "junk" or not isinstance(event, dict) or not event:
            events[place] = copy.deepcopy(dice.choice(GARBAGE))
        else:
            key = dice.choice(list(event))
            if how == "drop":
                del event[key]
            elif how == "nest" and isinstance(event[key], dict) and event[key]:
                event[key][dice.choice(list(event[key]))] = copy.deepcopy(dice.choice(GARBAGE))
            else:
                event[key] = copy.deepcopy(dice.choice(GARBAGE))
    run.events.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events))
    read_state(run)
    lists_all(bad_is_damaged=False)
    shows()
    summarize_run(run, 0.0)
    RunFeed(run)
    repair_before_resume(run)
    EventLog(run.events).close()
    finished_exit_code(run)
    for kept in run.path.glob("events.jsonl.damaged-*"):
        kept.unlink()


def test_damage_is_named_with_its_line_and_the_way_on_works(home: Path) -> None:
    run = RunDirectory(home / "bad")
    lines = run.events.read_bytes().splitlines(keepends=True)
    lines[5] = b'{"seq": 6, "type": "step", "stage": "new", "step": "five"}\n'
    run.events.write_bytes(b"".join(lines))
    with pytest.raises(
        SfError, match=r"events.jsonl:6: a `step` event: `step` is a text"
    ) as caught:
        finished_exit_code(run)
    assert "--repair-log" in caught.value.hint
    before = run.events.read_bytes()
    assert "1 damaged line taken out, 1 event missing" in repair_before_resume(run)
    (kept,) = run.path.glob("events.jsonl.damaged-*")
    assert kept.read_bytes() == before
    assert finished_exit_code(run) is None
    assert [event["seq"] for event in read_objects(run.events)] == list(range(1, len(lines) + 1))
    assert "nothing to repair" in repair_before_resume(run)


def test_an_emptied_log_is_refused_and_marked(home: Path) -> None:
    run = RunDirectory(home / "bad")
    state = run.checkpoints / "new" / "step-000000" / "state.json"
    state.write_text('{"seq": 4}')
    run.events.write_bytes(b"")
    with pytest.raises(SfError, match=r"is empty, but the checkpoint new/step-000000") as caught:
        finished_exit_code(run)
    assert "--repair-log" in caught.value.hint
    repair_before_resume(run)
    assert finished_exit_code(run) is None
    log = EventLog(run.events)
    assert log.append(UnknownEvent("note", {})).seq == 5
    log.close()
    run.events.unlink()
    with pytest.raises(SfError, match="is empty"):
        finished_exit_code(run)


def test_a_long_list_of_commands_is_cut_when_printed(home: Path) -> None:
    run = RunDirectory(home / "good")
    log = EventLog(run.events)
    for number in range(500):
        log.append(CommandAnswered(id=f"x{number}", action="go", by="user", status="refused"))
    log.close()
    done = CliRunner().invoke(app, ["show", "good"])
    assert "earlier commands; --json has all" in done.stdout
    assert len(done.stdout.splitlines()) < 80
    done = CliRunner().invoke(app, ["show", "good", "--json"])
    assert len(json.loads(done.stdout)["commands"]) >= 500
