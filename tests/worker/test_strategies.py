"""Runs trained with replay, ewc and l2-start: their access to old data, and kills at any moment."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from sf_tui.engine.prepare import prepare_run
from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from support.fork_client import ForkHost
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
    work,
)

# A third task, so that what a strategy carries from stage to stage counts.
THIRD = """\
[[tasks]]
name = "third"
data = "biography:new-1"
"""
# A strategy's settings that make its loss or its rows count on so small a model.
STRATEGIES = {
    "replay": ("train.replay={share=0.5}", ""),
    "ewc": ("train.ewc={strength=100.0, decay=0.5, examples=6}", "ewc"),
    "l2-start": ("train.l2_start={strength=0.01}", "l2_start"),
}


def settings_of(strategy: str) -> list[str]:
    return [
        *(f'tasks.{task}.train.strategy="{strategy}"' for task in ("new", "third")),
        *(f"tasks.{task}.{STRATEGIES[strategy][0]}" for task in ("new", "third")),
        "train.steps=8",
    ]


@pytest.fixture(scope="module", params=list(STRATEGIES))
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, RunDirectory]:
    """Return a finished run of three stages, the last two with a strategy."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "three.toml").write_text(PROFILE + THIRD)
    profile = load_profile(folder / "three.toml", settings_of(request.param))
    run = RunDirectory.create(
        folder / "run", profile_text=dump_profile(profile), profile_name="quick", argv=["sf"]
    )
    operator = Operator(run).at("third", 3, "freeze", layers=1).at("third", 6, "rollback")
    assert work(run, operator) == 0
    assert_well_told(run)
    return request.param, run


def operator_of(run: RunDirectory) -> Operator:
    return Operator(run).at("third", 3, "freeze", layers=1).at("third", 6, "rollback")


def test_strategy_trains_its_stages_alone_in_as_many_steps(
    played: tuple[str, RunDirectory],
) -> None:
    name, run = played
    started = {e["stage"]: (e["strategy"], e["steps"]) for e in events_of(run, "stage_started")}
    assert started == {"old": ("seq", 8), "new": (name, 8), "third": (name, 8)}
    loss = STRATEGIES[name][1]
    for step in events_of(run, "step"):
        assert (loss in step.get("losses", {})) == (bool(loss) and step["stage"] != "old")


def test_kill_between_stages_and_within_them_changes_no_bit(
    played: tuple[str, RunDirectory], tmp_path: Path
) -> None:
    events = events_of(played[1])
    # Between two stages that carry something on, and around a rewind in the last.
    counts = [
        event["seq"]
        for event in events
        if (event["type"] == "checkpoint" and event["stage"] == "new" and event["step"] == 8)
        or (event["type"] == "rewound" and event["stage"] == "third")
    ]
    assert_goes_on(played, tmp_path, counts)


@pytest.mark.slow
def test_kill_where_a_stage_begins_changes_no_bit(
    played: tuple[str, RunDirectory], tmp_path: Path
) -> None:
    counts = [
        event["seq"]
        for event in events_of(played[1])
        if (event["type"] == "stage_started" and event["stage"] == "third")
        or (event["type"] == "checkpoint" and event["stage"] == "new" and event["step"] == 0)
    ]
    assert_goes_on(played, tmp_path, counts)


def assert_goes_on(played: tuple[str, RunDirectory], folder: Path, counts: list[int]) -> None:
    """Kill the run after each of these numbers of events, and resume it."""
    name, run = played
    for at, count in enumerate(counts):
        again = put_back(run, folder / f"{count}", count, late=bool(at % 2))
        assert work(again, operator_of(again)) == 0
        where = f"{name}, killed behind event {count}"
        assert equal(final_weights(again), final_weights(run)), where
        assert live_course(again) == live_course(run), where
        shutil.rmtree(again.path)


def test_kill_minus_nine_of_a_process_changes_no_bit(
    fork_host: ForkHost, begin: Begin, tmp_path: Path
) -> None:
    (tmp_path / "three.toml").write_text(PROFILE + THIRD)
    settings = settings_of("ewc")
    whole = begin(*settings, more=THIRD, name="whole")
    assert work(whole) == 0
    run = RunDirectory(tmp_path / "process")
    options = [part for setting in settings for part in ("--set", setting)]
    line = ("run", tmp_path / "three.toml", "--no-ui", "--run-dir", run.path, *options)
    kill = (signal.SIGKILL, {"type": "step", "stage": "third", "step": 2})
    assert fork_host.run(*line, signals_at=[kill]).wait() == -signal.SIGKILL
    resumed = fork_host.run("resume", run.path, "--no-ui")
    assert resumed.wait() == 0, resumed.stderr
    assert_well_told(run)
    assert live_course(run) == live_course(whole)
    assert equal(final_weights(run), final_weights(whole))


@pytest.mark.parametrize(("strategy", "needed"), [("l2-start", False), ("replay", True)])
def test_old_rows_are_encoded_only_where_a_strategy_needs_them(strategy: str, needed: bool) -> None:
    profile = load_profile("biography-mini", [f'train.strategy="{strategy}"'])
    old = prepare_run(profile, 1).tasks["old"]
    assert (len(old.train) > 0) == needed
    # Probes are planned by it, so it must not depend on the strategy.
    lengths = [len(row.input_ids) for row in old.held_out]
    assert old.mean_length == pytest.approx(sum(lengths) / len(lengths))
