"""An anchored run that is killed anywhere ends with the very weights of one that never was."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import JsonObject
from support import PATIENCE_S
from support.fork_client import ForkHost, SfProcess
from support.put_back import put_back
from support.quick_run import (
    PROFILE,
    Begin,
    Operator,
    assert_well_told,
    equal,
    events_of,
    final_weights,
    live_course,
    live_probes,
    work,
)
from support.run_process import kill_and_resume, wait_for

ANCHORED = 'tasks.new.train.strategy="anchor"'
# A bank of three parts, which takes a second or two.
LARGE = "anchor.cache_size=2200"
# Where a run is held until a test lets it go on.
HELD = (signal.SIGSTOP, {"type": "step", "stage": "new", "step": 1})

RULE = """\
[[rules]]
name = "hold"
metric = "drift"
above = 0.05
action = "anchor"
arguments = {strength = 3.0}
"""


def operate(run: RunDirectory) -> Operator:
    # Never at a step that ends with a checkpoint, as in the ledger's tests.
    operator = Operator(run).at("old", 2, "freeze", layers=1)
    operator.at("old", 6, "unanchor").at("old", 7, "anchor", strength=0.5)
    operator.at("old", 10, "rollback", to="step-000004").at("old", 11, "unanchor")
    operator.at("new", 3, "unanchor").at("new", 6, "anchor").at("new", 7, "unfreeze")
    return operator.at("new", 10, "rollback")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a finished run whose anchor came and went in every way."""
    folder = tmp_path_factory.mktemp("busy")
    (folder / "busy.toml").write_text(PROFILE + RULE)
    profile = load_profile(folder / "busy.toml", [ANCHORED])
    run = RunDirectory.create(
        folder / "run", profile_text=dump_profile(profile), profile_name="quick", argv=["sf"]
    )
    assert work(run, operate(run)) == 0
    assert_well_told(run)
    return run


def test_the_busy_run_did_what_it_was_asked_to(busy: RunDirectory) -> None:
    done = [(e["by"][:4], e["op"]) for e in events_of(busy, "command") if e["status"] == "done"]
    assert ("hold", "anchor") in done
    assert {op for _, op in done} == {"freeze", "unfreeze", "anchor", "unanchor", "rollback"}
    assert [e["reason"] for e in events_of(busy, "rewound")] == ["rollback", "rollback"]
    held = ["losses" in e for e in events_of(busy, "step")]
    assert 10 < sum(held) < len(held) - 5


def assert_goes_on(busy: RunDirectory, path: Path, count: int, *, late: bool) -> None:
    run = put_back(busy, path, count, late=late)
    last = events_of(run)[-1]
    if last["type"] == "run_finished":
        return
    where = f"killed behind event {count}, {last['type']} of {last.get('stage')}"
    assert work(run, operate(run)) == 0, where
    assert equal(final_weights(run), final_weights(busy)), where
    assert live_course(run) == live_course(busy), where
    assert live_probes(run) == live_probes(busy), where
    assert_well_told(run)
    shutil.rmtree(path)


def nasty(events: list[JsonObject]) -> list[int]:
    """Return the moments behind a command's acceptance, around rewinds and where a stage begins."""
    begins = {"stage_started", "rewound"}
    return [
        event["seq"]
        for event in events
        if event["type"] in begins
        or (event["type"] == "command" and event["status"] == "accepted")
        or (event["type"] == "checkpoint" and event["step"] == 0)
    ]


@pytest.mark.slow
def test_kill_at_a_nasty_moment_changes_nothing(busy: RunDirectory, tmp_path: Path) -> None:
    for count in nasty(events_of(busy)):
        assert_goes_on(busy, tmp_path / f"{count}", count, late=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("late", [False, True])
def test_kill_behind_any_event_changes_nothing(
    busy: RunDirectory, tmp_path: Path, late: bool
) -> None:
    for count in range(1, len(events_of(busy)) + 1):
        assert_goes_on(busy, tmp_path / f"{count}", count, late=late)


Start = Callable[..., tuple[SfProcess, RunDirectory]]


@pytest.fixture
def started(fork_host: ForkHost, profile_file: Path, tmp_path: Path) -> Start:
    """Start `sf run --no-ui` on the quick profile, with settings, in a process of its own."""

    def start(*settings: str, **options: Any) -> tuple[SfProcess, RunDirectory]:
        run = RunDirectory(tmp_path / "process")
        arguments = [part for setting in settings for part in ("--set", setting)]
        line = ("run", profile_file, "--no-ui", "--run-dir", run.path, *arguments)
        return fork_host.start(*line, **options), run

    return start


def wait_for_part(run: RunDirectory, process: SfProcess, stage: str, number: int) -> None:
    part = run.path / "neighbors" / stage / f"part-{number:04d}.safetensors"
    deadline = time.monotonic() + PATIENCE_S
    while not part.exists():
        assert process.poll() is None, process.stderr
        assert time.monotonic() < deadline, process.stderr
        time.sleep(0.002)


@pytest.fixture(scope="module")
def anchored(profile_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return the run with a large bank that nobody disturbed."""
    profile = load_profile(profile_file, [ANCHORED, LARGE])
    run = RunDirectory.create(
        tmp_path_factory.mktemp("anchored") / "run",
        profile_text=dump_profile(profile),
        profile_name="quick",
        argv=["sf"],
    )
    assert work(run) == 0
    return run


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), None]
)
def test_end_while_the_bank_is_made_costs_nothing_that_was_made(
    fork_host: ForkHost, started: Start, anchored: RunDirectory, number: signal.Signals | None
) -> None:
    process, run = started(ANCHORED, LARGE)
    wait_for_part(run, process, "new", 0)
    if number:
        process.send(number)
    else:
        request_command(run, "stop")
    assert process.wait() == (-number if number == signal.SIGKILL else 5)
    bank = run.path / "neighbors" / "new"
    first = bank / "part-0000.safetensors"
    made = first.stat().st_mtime_ns
    assert len(list(bank.glob("part-*"))) < 3
    assert fork_host.run("resume", run.path, "--no-ui").wait() == 0
    assert_well_told(run)
    assert first.stat().st_mtime_ns == made
    assert live_course(run) == live_course(anchored)
    assert equal(final_weights(run), final_weights(anchored))


@pytest.mark.parametrize(
    ("number", "parts"),
    [(signal.SIGKILL, 0), pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow)],
)
def test_end_between_a_commands_acceptance_and_its_end_loses_it_not(
    fork_host: ForkHost, started: Start, begin: Begin, number: signal.Signals, parts: int
) -> None:
    signals = [HELD] if parts else [HELD, (number, {"type": "command", "status": "accepted"})]
    # In the midst of the bank, or before its making begins: then its size doesn't count.
    settings = (LARGE, "tasks.new.train.steps=40") if parts else ()
    process, run = started(*settings, signals_at=signals)
    process.wait_until_stopped()
    request_command(run, "anchor")
    process.send(signal.SIGCONT)
    if parts:
        wait_for_part(run, process, "new", 0)
        process.send(number)
    process.wait()
    accepted = events_of(run, "command")[0]
    assert events_of(run, "command")[-1]["status"] == "accepted"
    assert fork_host.run("resume", run.path, "--no-ui").wait() == 0
    assert_well_told(run)
    done = events_of(run, "command")[-1]
    assert (done["status"], done["step"]) == ("done", accepted["step"])

    whole = begin(*settings)
    assert work(whole, Operator(whole).at("new", accepted["step"], "anchor")) == 0
    assert live_course(run) == live_course(whole)
    assert equal(final_weights(run), final_weights(whole))


@pytest.mark.slow  # each kind of moment has a test above
def test_kills_at_random_moments_change_no_bit(
    fork_host: ForkHost, started: Start, anchored: RunDirectory
) -> None:
    run = kill_and_resume(fork_host, started, 4, 5, ANCHORED, LARGE)
    assert_well_told(run)
    assert live_course(run) == live_course(anchored)
    assert equal(final_weights(run), final_weights(anchored))


@pytest.mark.slow
def test_a_stop_is_heard_while_another_command_is_at_work(
    fork_host: ForkHost, started: Start, begin: Begin
) -> None:
    process, run = started(LARGE, "tasks.new.train.steps=40", signals_at=[HELD])
    process.wait_until_stopped()
    request_command(run, "anchor")
    process.send(signal.SIGCONT)
    accepted = wait_for(run, process, lambda e: e["type"] == "command")
    freeze = request_command(run, "freeze")
    stop = request_command(run, "stop")

    assert process.wait() == 5
    answers = [(e["op"], e["status"]) for e in events_of(run, "command")]
    assert answers[:3] == [("anchor", "accepted"), ("stop", "accepted"), ("stop", "done")]
    by_id = {e["id"]: e for e in events_of(run, "command")}
    assert by_id[stop]["step"] == accepted["step"]
    assert (by_id[freeze]["status"], by_id[freeze]["reason"]) == (
        "refused",
        "the run was being stopped",
    )
    assert len(list((run.path / "neighbors" / "new").glob("part-*"))) < 3

    assert fork_host.run("resume", run.path, "--no-ui").wait() == 0
    assert_well_told(run)
    whole = begin(LARGE, "tasks.new.train.steps=40")
    assert work(whole, Operator(whole).at("new", accepted["step"], "anchor")) == 0
    assert live_course(run) == live_course(whole)
    assert equal(final_weights(run), final_weights(whole))
