"""A log that ends anywhere is gone on with to the same end.

A run is played with an operator, rules and rollbacks; then its directory is put back to what it
was when each event had just been written, as a kill there would have left it, and resumed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import JsonObject
from sf_tui.worker.stop import StopSignals
from sf_tui.worker.worker import Worker
from support.busy_run import operate
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


def assert_goes_on(busy: RunDirectory, path: Path, count: int, *, late: bool) -> None:
    run = put_back(busy, path, count, late=late)
    last = events_of(run)[-1]
    where = f"killed behind event {count}, {last['type']} of {last.get('stage')}"
    if last["type"] == "run_finished":
        return
    assert work(run, operate(run)) == 0, where
    assert equal(final_weights(run), final_weights(busy)), where
    assert live_course(run) == live_course(busy), where
    assert live_probes(run) == live_probes(busy), where
    assert_well_told(run)
    assert firings(run) == firings(busy), where
    shutil.rmtree(path)


def firings(run: RunDirectory) -> list[tuple[str, str, int, float]]:
    """Return what rules did, once-rules above all."""
    return [
        (event["by"], event["stage"], event["step"], event["value"])
        for event in events_of(run, "command")
        if event["by"] in {"hold", "back"} and event["status"] == "accepted"
    ]


def nasty(events: list[JsonObject]) -> list[int]:
    """Return the moments between a command's acceptance and its end, and around a rewind."""
    found = []
    for event in events:
        between = event["type"] == "command" and event["status"] == "accepted"
        if between and event["op"] in {"freeze", "unfreeze", "rollback", "pause"}:
            found.append(event["seq"])
        if event["type"] == "rewound":
            found.append(event["seq"])
    return found


def test_the_busy_run_did_what_it_was_asked_to(busy: RunDirectory) -> None:
    done = [e["action"] for e in events_of(busy, "command") if e["status"] == "done"]
    for action in ("freeze", "unfreeze", "pause", "resume", "checkpoint", "rollback"):
        assert action in done
    assert [by for by, _, _, _ in firings(busy)] == ["hold", "back"]
    assert len(events_of(busy, "rewound")) == 3


def test_kill_at_a_nasty_moment_changes_nothing(busy: RunDirectory, tmp_path: Path) -> None:
    # Every fourth; `slow` tests kill it behind any event.
    for count in nasty(events_of(busy))[::4]:
        assert_goes_on(busy, tmp_path / f"{count}", count, late=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("late", [False, True])
def test_kill_behind_any_event_changes_nothing(
    busy: RunDirectory, tmp_path: Path, late: bool
) -> None:
    for count in range(1, len(events_of(busy)) + 1):
        assert_goes_on(busy, tmp_path / f"{count}", count, late=late)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a run that an operator stopped in its second stage."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "quick.toml").write_text(PROFILE)
    text = dump_profile(load_profile(folder / "quick.toml"))
    run = RunDirectory.create(folder / "run", profile_text=text, profile_name="quick", argv=["sf"])
    assert work(run, Operator(run).at("new", 7, "stop")) == 5
    return run


@pytest.mark.parametrize("late", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_stop_that_was_cut_off_by_a_kill_has_failed_and_the_run_goes_on(
    stopped: RunDirectory, undisturbed: RunDirectory, tmp_path: Path, late: bool
) -> None:
    accepted = next(e["seq"] for e in events_of(stopped, "command") if e["status"] == "accepted")
    run = put_back(stopped, tmp_path / "run", accepted, late=late)
    assert work(run) == 0
    assert_well_told(run)
    assert events_of(run, "command")[-1]["status"] == "failed"
    assert equal(final_weights(run), final_weights(undisturbed))


def test_resume_says_where_it_goes_on_and_what_was_lost(
    stopped: RunDirectory, undisturbed: RunDirectory, tmp_path: Path
) -> None:
    step = next(
        e["seq"] for e in events_of(stopped, "step") if (e["stage"], e["step"]) == ("new", 7)
    )
    run = put_back(stopped, tmp_path / "run", step, late=False)
    assert work(run) == 0
    (rewound,) = events_of(run, "rewound")
    assert (rewound["stage"], rewound["step"], rewound["lost"]) == ("new", 4, 3)
    assert rewound["reason"] == "resumed"
    assert live_course(run) == live_course(undisturbed)
    kinds = ["danger", "alert", "stage_started", "stage_finished"]
    for kind in kinds:
        assert len(events_of(run, kind)) == len(events_of(undisturbed, kind)), kind


def behind(run: RunDirectory, wanted: Callable[[JsonObject], bool]) -> int:
    """Return the number of events that stand up to the first one of a kind."""
    return next(event["seq"] for event in events_of(run) if wanted(event))


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a finished run that an operator froze in its first stage; tests only read it."""
    folder = tmp_path_factory.mktemp("frozen")
    (folder / "quick.toml").write_text(PROFILE)
    text = dump_profile(load_profile(folder / "quick.toml"))
    run = RunDirectory.create(folder / "run", profile_text=text, profile_name="quick", argv=["sf"])
    assert work(run, Operator(run).at("old", 6, "freeze", layers=2)) == 0
    return run


def test_stop_before_a_command_is_done_again_does_not_lose_it(
    frozen: RunDirectory, tmp_path: Path
) -> None:
    # Killed at step 7, resumed at step 4, and stopped there before it comes to step 6 again.
    killed = behind(frozen, lambda e: e["type"] == "step" and e["step"] == 7)
    run = put_back(frozen, tmp_path / "killed", killed, late=False)
    signals = StopSignals()
    signals.received = "SIGTERM"
    assert Worker(run, signals).work() == 5
    assert events_of(run, "checkpoint")[-1]["step"] == 4
    assert work(run) == 0
    assert_well_told(run)
    assert live_course(run) == live_course(frozen)
    assert equal(final_weights(run), final_weights(frozen))


def test_command_that_a_rollback_went_behind_is_not_done_again(
    frozen: RunDirectory, undisturbed: RunDirectory, tmp_path: Path
) -> None:
    killed = behind(frozen, lambda e: e["type"] == "step" and e["step"] == 7)
    run = put_back(frozen, tmp_path / "killed", killed, late=False)
    assert work(run, Operator(run).at("old", 5, "rollback", to="step-000000")) == 0
    assert_well_told(run)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_rule_that_was_cut_off_behind_another_ones_checkpoint_is_gone_on_with(
    begin: Begin, tmp_path: Path
) -> None:
    rules = """\
[[rules]]
name = "keep"
metric = "loss"
below = 100.0
action = "checkpoint"
[[rules]]
name = "hold"
metric = "loss"
below = 100.0
action = "freeze"
arguments = {layers = 2}
"""
    whole = begin("train.steps=4", more=rules)
    assert work(whole) == 0
    killed = behind(whole, lambda e: e["type"] == "command" and e["by"] == "hold")
    run = put_back(whole, tmp_path / "killed", killed, late=False)
    assert work(run) == 0
    assert_well_told(run)
    assert equal(final_weights(run), final_weights(whole))
