"""Recovery tests, repairs and edits in a run: what they leave, undo, and survive."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from support.put_back import put_back
from support.quick_run import (
    PROFILE,
    Begin,
    Operator,
    assert_well_told,
    checkpoint_weights,
    equal,
    events_of,
    final_weights,
    live_course,
    live_probes,
    work,
)

# A repair of so few steps that the whole run still plays in seconds; scaled back, it has its effect
# also where none of them is better than none.
SHORT = ("recover.steps=6", "diagnose.steps=6", "anchor.cache_size=64", "recover.interpolate=0.7")

METRIC = 'data = "biography:{}"\nmetric = "token_accuracy"\n'

RULE = """\
[[rules]]
name = "mend"
metric = "drift"
above = 0.05
action = "recover"
arguments = {steps = 4}
"""


def operate(run: RunDirectory) -> Operator:
    operator = Operator(run).at("new", 2, "diagnose").at("new", 3, "recover", steps=5)
    operator.at("new", 6, "interpolate", keep=0.5).at("new", 7, "shift-edit")
    return operator.at("new", 10, "rollback").at("new", 9, "spectral-edit")


@pytest.fixture(scope="module")
def mended(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a finished run that was tested and mended in every way."""
    folder = tmp_path_factory.mktemp("mended")
    (folder / "mended.toml").write_text(PROFILE + RULE)
    profile = load_profile(folder / "mended.toml", SHORT)
    run = RunDirectory.create(
        folder / "run", profile_text=dump_profile(profile), profile_name="quick", argv=["sf"]
    )
    assert work(run, operate(run)) == 0
    assert_well_told(run)
    return run


def test_everything_that_was_asked_for_was_done(mended: RunDirectory) -> None:
    done = {e["op"] for e in events_of(mended, "command") if e["status"] == "done"}
    wanted = {"diagnose", "recover", "interpolate", "shift-edit", "spectral-edit", "rollback"}
    assert wanted <= done
    by_rule = [(e["stage"], e["status"]) for e in events_of(mended, "command") if e["by"] == "mend"]
    # In the first stage there is nothing to lose yet.
    assert ("new", "accepted") in by_rule
    assert ("new", "done") in by_rule
    assert {status for stage, status in by_rule if stage == "old"} <= {"refused"}


def test_a_mended_run_that_is_killed_ends_with_the_same_weights(
    mended: RunDirectory, tmp_path: Path
) -> None:
    accepted = [
        event["seq"]
        for event in events_of(mended, "command")
        if event["status"] == "accepted" and event["op"] != "diagnose"
    ]
    done = [e["seq"] for e in events_of(mended, "command") if e["status"] == "done"]
    for count in [*accepted, *done]:
        run = put_back(mended, tmp_path / f"{count}", count, late=False)
        assert work(run, operate(run)) == 0
        assert equal(final_weights(run), final_weights(mended)), count
        assert live_course(run) == live_course(mended), count
        assert live_probes(run) == live_probes(mended), count
        assert_well_told(run)
        shutil.rmtree(run.path)


def test_a_recovery_test_leaves_the_run_as_it_would_have_been(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin(*SHORT)
    operator = Operator(run).at("new", 3, "diagnose", thorough=True).at("new", 9, "diagnose")
    assert work(run, operator) == 0
    found = events_of(run, "diagnosis")
    assert [event["step"] for event in found] == [3, 9]
    assert all(event["task"] == "old" for event in found)
    assert "reference" in found[0]["arms"]
    assert "reference" not in found[1]["arms"]
    assert live_course(run) == live_course(undisturbed)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_rollback_undoes_a_repair_at_the_step_itself(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin(*SHORT)
    operator = Operator(run).at("new", 6, "recover").after("recover", "rollback")
    assert work(run, operator) == 0
    rewound = events_of(run, "rewound")
    assert [(event["step"], event["lost"]) for event in rewound] == [(6, 0)]
    assert equal(final_weights(run), final_weights(undisturbed))


def test_the_weights_from_before_a_repair_stay_when_the_run_stops_behind_it(
    begin: Begin,
) -> None:
    run = begin(*SHORT)
    assert work(run, Operator(run).at("new", 6, "recover").after("recover", "stop")) == 5
    names = sorted(path.name for path in (run.checkpoints / "new").iterdir())
    assert {"step-000006", "step-000006~1"} <= set(names)
    mended = checkpoint_weights(run, "new", 6)
    (run.checkpoints / "new" / "step-000006").rename(run.path / "elsewhere")
    (run.checkpoints / "new" / "step-000006~1").rename(run.checkpoints / "new" / "step-000006")
    before = checkpoint_weights(run, "new", 6)
    assert not equal(mended, before)
    assert work(run) == 0
    assert_well_told(run)


def test_what_is_frozen_stays_bit_for_bit_what_it_is_in_a_repair(begin: Begin) -> None:
    run = begin(*SHORT)
    operator = Operator(run).at("new", 2, "freeze", layers=2).at("new", 6, "recover")
    assert work(run, operator) == 0
    frozen = checkpoint_weights(run, "new", 4)
    last = checkpoint_weights(run, "new", 12)
    held = [name for name in frozen if "embed_in" in name or ".layers.0." in name]
    assert held
    assert equal({n: frozen[n] for n in held}, {n: last[n] for n in held})
    assert not equal(frozen, last)


def test_where_no_task_was_learnt_before_there_is_nothing_to_test_or_mend(begin: Begin) -> None:
    run = begin(*SHORT)
    operator = Operator(run).at("old", 2, "diagnose").at("old", 3, "recover")
    assert work(run, operator) == 0
    statuses = {(e["action"], e["status"]) for e in events_of(run, "command")}
    assert statuses == {("diagnose", "refused"), ("recover", "refused")}
    assert "no watched task" in events_of(run, "command")[0]["reason"]


def test_an_edit_under_the_floor_fails_and_the_run_continues_unharmed(
    tmp_path: Path,
) -> None:
    """The new task is measured by tokens, of which so small a model gets some right."""
    text = PROFILE.replace('data = "biography:new"\n', METRIC.format("new"))
    (tmp_path / "floor.toml").write_text(
        text.replace('data = "biography:old"\n', METRIC.format("old"))
    )
    profile = load_profile(tmp_path / "floor.toml", (*SHORT, "train.steps=30"))
    runs = []
    for name in ("plain", "refused"):
        run = RunDirectory.create(
            tmp_path / name, profile_text=dump_profile(profile), profile_name="quick", argv=["sf"]
        )
        operator = Operator(run)
        if name == "refused":
            operator.at("new", 24, "interpolate", keep=0.0)
        assert work(run, operator) == 0
        runs.append(run)
    plain, refused = runs
    assert_well_told(refused)
    answers = {e["op"]: e for e in events_of(refused, "command") if e["status"] != "accepted"}
    assert answers["interpolate"]["status"] == "failed"
    assert "under its floor" in answers["interpolate"]["reason"]
    assert "the weights are as before" in answers["interpolate"]["reason"]
    assert equal(final_weights(refused), final_weights(plain))
    assert live_course(refused) == live_course(plain)
