"""Recovery tests, repairs and edits in a run: what they leave, undo, and survive."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_tui.engine.loop import StageTuner
from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import JsonObject, read_events
from sf_tui.run.state import fold
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
from support.short_ops import SHORT, shorten_arms

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
    with pytest.MonkeyPatch.context() as patch:
        shorten_arms(patch)
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


def command_moments(run: RunDirectory) -> dict[str, list[int]]:
    """Return for each op the moments behind an acceptance and behind an end, without tests'."""
    found: dict[str, list[int]] = {}
    for event in events_of(run, "command"):
        accepted = event["status"] == "accepted" and event["op"] != "diagnose"
        if accepted or event["status"] == "done":
            found.setdefault(event["op"], []).append(event["seq"])
    return found


def assert_mended_again(mended: RunDirectory, folder: Path, moments: list[int]) -> None:
    """Kill the run at each moment and resume it."""
    for count in moments:
        run = put_back(mended, folder / f"{count}", count, late=False)
        assert work(run, operate(run)) == 0
        assert equal(final_weights(run), final_weights(mended)), count
        assert live_course(run) == live_course(mended), count
        assert live_probes(run) == live_probes(mended), count
        assert_well_told(run)
        shutil.rmtree(run.path)


def test_a_mended_run_that_is_killed_ends_with_the_same_weights(
    mended: RunDirectory, tmp_path: Path
) -> None:
    moments = command_moments(mended)
    # In the middle of a repair, and of an edit; a `slow` test kills behind each.
    chosen = [moments["recover"][0], moments["shift-edit"][0]]
    assert_mended_again(mended, tmp_path, chosen)


@pytest.mark.slow
def test_a_mended_run_that_is_killed_behind_any_command_ends_with_the_same_weights(
    mended: RunDirectory, tmp_path: Path
) -> None:
    every = [count for counts in command_moments(mended).values() for count in counts]
    assert_mended_again(mended, tmp_path, every)


def test_a_recovery_test_leaves_the_run_as_it_would_have_been(
    begin: Begin, undisturbed: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_arms(monkeypatch)
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


def reasons(run: RunDirectory, op: str) -> list[str]:
    """Return the answers to every command of an op that was done."""
    found = [e for e in events_of(run, "command") if e["op"] == op and e["status"] == "done"]
    return [event["reason"] for event in found]


def back_and_forth(run: RunDirectory) -> Operator:
    """Repair twice: undo the first at its step, go back to the second from later."""
    operator = Operator(run).at("new", 5, "freeze", layers=1).at("new", 6, "recover", steps=4)
    operator.after("recover", "rollback").at("new", 9, "interpolate", keep=0.5)
    return operator.at("new", 11, "rollback", to="step-000009~1")


@pytest.fixture(scope="module")
def undone(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a finished run that was taken back to before a repair and before an edit."""
    folder = tmp_path_factory.mktemp("undone")
    (folder / "undone.toml").write_text(PROFILE)
    profile = load_profile(folder / "undone.toml", SHORT)
    run = RunDirectory.create(
        folder / "run", profile_text=dump_profile(profile), profile_name="quick", argv=["sf"]
    )
    assert work(run, back_and_forth(run)) == 0
    assert_well_told(run)
    return run


def test_rollback_says_what_protection_it_took_along(undone: RunDirectory) -> None:
    first, second = reasons(undone, "rollback")
    assert first == "back at step-000006~1, 0 steps lost; it also released the anchor"
    assert second == "back at step-000009~1, 2 steps lost"
    assert fold(read_events(undone.events)).stages["new"].anchor is None


def ask_again(run: RunDirectory) -> Callable[[JsonObject], None]:
    """Ask for the rollback again in a resumed run: a kill takes a request that waits with it."""
    done = [e["op"] for e in events_of(run, "command") if e["status"] == "done"]
    wanted = "recover" in done and not events_of(run, "rewound")

    def listen(event: JsonObject) -> None:
        if wanted and event["type"] == "rewound" and event["reason"] == "resumed":
            request_command(run, "rollback")

    return listen


def acts_of(run: RunDirectory) -> list[JsonObject]:
    """Return the events of commands, checkpoints and rewinds from the first command on."""
    acts = [e for e in events_of(run) if e["type"] in ("command", "checkpoint", "rewound")]
    first = next(e["seq"] for e in events_of(run, "command"))
    return [event for event in acts if event["seq"] >= first]


def assert_undone_again(undone: RunDirectory, folder: Path, acts: list[JsonObject]) -> None:
    """Kill the run behind each event and resume it; behind a rewind also later than it told."""
    for event in acts:
        for late in (False, True) if event["type"] == "rewound" else (False,):
            where = f"{event['seq']}-{late}"
            run = put_back(undone, folder / where, event["seq"], late=late)
            assert work(run, back_and_forth(run), ask_again(run)) == 0, where
            assert equal(final_weights(run), final_weights(undone)), where
            assert live_course(run) == live_course(undone), where
            assert live_probes(run) == live_probes(undone), where
            assert_well_told(run)
            shutil.rmtree(run.path)


@pytest.mark.slow
def test_a_run_taken_back_behind_an_edit_and_killed_ends_with_the_same_weights(
    undone: RunDirectory, undisturbed: RunDirectory, tmp_path: Path
) -> None:
    # Every edit was undone; the frozen block is all that is left.
    frozen = [name for name in final_weights(undone) if ".layers.0." in name]
    assert frozen
    assert not equal(final_weights(undone), final_weights(undisturbed))
    acts = acts_of(undone)
    back = [event for event in acts if event["type"] == "rewound"]
    mended = [e for e in acts if e["type"] == "command" and e["op"] == "recover"]
    assert_undone_again(undone, tmp_path, [*back, *mended])


@pytest.mark.slow
def test_a_run_taken_back_and_killed_behind_any_act_ends_with_the_same_weights(
    undone: RunDirectory, tmp_path: Path
) -> None:
    assert_undone_again(undone, tmp_path, acts_of(undone))


def test_the_weights_of_a_repair_are_saved_beside_those_from_before_it(begin: Begin) -> None:
    run = begin(*SHORT, "checkpoint.keep_last=1", "checkpoint.keep_best=0")
    assert work(run, Operator(run).at("new", 6, "recover")) == 0
    names = {path.name for path in (run.checkpoints / "new").iterdir()}
    assert {"step-000006", "step-000006~1"} <= names, "neither is pruned"
    [done] = reasons(run, "recover")
    assert done.endswith("; from now on held by an anchor of strength 1")
    held = ["anchor" in e.get("losses", {}) for e in events_of(run, "step") if e["stage"] == "new"]
    assert held == [False] * 6 + [True] * 6
    state = fold(read_events(run.events)).stages["new"]
    assert state.anchor_at(6) is not None
    assert state.anchor_at(5) is None


def test_a_repair_leaves_an_anchored_stage_as_it_is_and_can_leave_it_free(begin: Begin) -> None:
    run = begin(*SHORT, "train.steps=8")
    operator = Operator(run).at("new", 2, "recover", then_anchor=False)
    operator.at("new", 4, "anchor", strength=2.0).at("new", 6, "recover")
    assert work(run, operator) == 0
    free, anchored = reasons(run, "recover")
    assert free.endswith("; not anchored, so training may lose it again")
    assert anchored.endswith("; still held by the anchor of strength 2")
    arguments = [e["arguments"] for e in events_of(run, "command") if e["op"] == "recover"]
    assert [each["then_anchor"] for each in arguments] == [False] * 4


def test_a_repair_where_no_anchor_is_possible_says_so(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(_: StageTuner, what: str) -> str | None:
        return "this loop takes no anchor" if what == "anchor" else None

    monkeypatch.setattr(StageTuner, "refusal", refusal)
    run = begin(*SHORT, "train.steps=4")
    assert work(run, Operator(run).at("new", 3, "recover")) == 0
    assert reasons(run, "recover")[0].endswith("; not anchored: this loop takes no anchor")


def test_a_freeze_of_what_is_frozen_changes_nothing_and_says_so(begin: Begin) -> None:
    run = begin("train.steps=3")
    operator = Operator(run).at("new", 1, "freeze", layers=1).at("new", 2, "freeze", layers=1)
    assert work(run, operator) == 0
    done = [e for e in events_of(run, "command") if e["status"] == "done"]
    assert [event.get("changed", True) for event in done] == [True, False]
    assert done[1]["reason"] == "it was frozen already"


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
    run = begin(*SHORT, "tasks.old.train.steps=4", "tasks.new.train.steps=8")
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


@pytest.mark.parametrize(
    ("frozen_at", "keeps", "stays", "said"),
    [
        (2, False, False, "3 layers that moved before they were frozen are repaired, too"),
        (2, True, True, "3 layers are frozen and stay as they are; unfreeze first brings more"),
        (0, False, True, ""),
    ],
)
def test_a_repair_frees_the_frozen_layers_that_have_moved(
    begin: Begin, frozen_at: int, keeps: bool, stays: bool, said: str
) -> None:
    run = begin(*SHORT)
    operator = Operator(run).at("new", 6, "recover", keep_frozen=keeps)
    if frozen_at:
        operator.at("new", frozen_at, "freeze", layers=2)
    else:
        operator.at("old", 11, "freeze", layers=2)
    assert work(run, operator) == 0
    frozen, mended, last = (checkpoint_weights(run, "new", step) for step in (4, 6, 12))
    held = [name for name in frozen if "embed_in" in name or ".layers.0." in name]
    assert held
    assert equal({n: frozen[n] for n in held}, {n: mended[n] for n in held}) is stays
    # Frozen again from then on, with what the optimizer knew of them.
    assert equal({n: mended[n] for n in held}, {n: last[n] for n in held})
    assert not equal(mended, last)
    assert said in reasons(run, "recover")[0]
    assert ("frozen" in reasons(run, "recover")[0]) is bool(said)
    drift = events_of(run, "drift")[-1]["layers"]
    assert sum(layer["frozen"] for layer in drift) == 3


def test_where_no_task_was_learnt_before_there_is_nothing_to_test_or_mend(begin: Begin) -> None:
    run = begin(*SHORT, "train.steps=4")
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
    # Long enough that the new task is learned: without the stage, much of it is lost.
    learns = (
        *("tasks.new.train.steps=60", "tasks.new.train.learning_rate=0.03"),
        *("probe.every=30", "probe.every_in_window=30", "checkpoint.every=30"),
    )
    profile = load_profile(tmp_path / "floor.toml", (*SHORT, *learns))
    runs = []
    for name in ("plain", "refused"):
        run = RunDirectory.create(
            tmp_path / name, profile_text=dump_profile(profile), profile_name="quick", argv=["sf"]
        )
        operator = Operator(run)
        if name == "refused":
            operator.at("new", 55, "interpolate", keep=0.0)
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
