"""The tasks at risk are told before a stage's first step, once, and cost the course nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from support.put_back import put_back
from support.quick_run import (
    Begin,
    assert_well_told,
    equal,
    events_of,
    final_weights,
    live_course,
    work,
)

# The quick run's stages are so short that only a whole stage's worth pays for a prompt.
WHOLE = "neighbors.survey_budget=1.0"


@pytest.fixture(scope="module")
def told(profile_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return the finished run that tells the tasks at risk; tests only read it."""
    run = RunDirectory.create(
        tmp_path_factory.mktemp("told") / "run",
        profile_text=dump_profile(load_profile(profile_file, [WHOLE])),
        profile_name="quick",
        argv=["sf"],
    )
    assert work(run) == 0
    return run


def test_tasks_at_risk_are_told_once_where_something_can_be_lost(
    told: RunDirectory, undisturbed: RunDirectory
) -> None:
    (event,) = events_of(told, "tasks_at_risk")
    assert (event["stage"], event["step"]) == ("new", 0)
    # A forwarded token costs a third of a trained one.
    trained = 12 * 4 * 13
    assert 0 < event["tokens"] <= 3 * trained
    assert event["prompts"] >= 1
    assert event["seconds"] < 2
    assert 0 < len(event["groups"]) <= 20
    kinds = [
        (e.get("code") or e["type"], e.get("step"))
        for e in events_of(told)
        if e.get("stage") == "new"
    ]
    assert kinds[:8] == [
        ("stage_started", None),
        ("probe", 0),
        ("unknown-old", 0),
        ("probe-cost", 0),
        ("few-examples", 0),
        ("danger", 0),
        ("tasks_at_risk", 0),
        ("checkpoint", 0),
    ]
    assert live_course(told) == live_course(undisturbed)
    assert equal(final_weights(told), final_weights(undisturbed))


@pytest.mark.parametrize(
    "setting",
    ["neighbors.survey_budget=0.0", "neighbors.survey_budget=0.03", "tasks.old.watch=false"],
)
def test_nothing_is_told_where_it_is_off_too_dear_or_of_no_use(begin: Begin, setting: str) -> None:
    given = () if "budget" in setting else (WHOLE,)
    run = begin(*given, setting, "tasks.old.train.steps=1")
    assert work(run) == 0
    assert events_of(run, "tasks_at_risk") == []


@pytest.mark.parametrize("behind", [-1, 0])
def test_stage_that_begins_anew_tells_them_once(
    told: RunDirectory, undisturbed: RunDirectory, tmp_path: Path, behind: int
) -> None:
    (event,) = events_of(told, "tasks_at_risk")
    run = put_back(told, tmp_path / "killed", event["seq"] + behind, late=False)
    assert work(run) == 0
    assert_well_told(run)
    assert len(events_of(run, "tasks_at_risk")) == 1
    assert equal(final_weights(run), final_weights(undisturbed))
