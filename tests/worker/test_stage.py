"""One stage: what it measures and when, what a NaN does to it, and what its strategy holds."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from sf_tui.errors import RunError
from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import JsonObject, read_events
from sf_tui.run.state import fold
from support.quick_run import (
    Begin,
    Operator,
    assert_well_told,
    checkpoint_weights,
    checkpoints_of,
    equal,
    events_of,
    final_weights,
    live_course,
    work,
)

# The first step makes weights of 1e27 and more, the second a loss that is no number.
BURSTS = "tasks.new.train.learning_rate=1e30"


def test_events_come_in_the_order_of_the_log_format(undisturbed: RunDirectory) -> None:
    events = [(e["type"], e.get("stage"), e.get("step")) for e in events_of(undisturbed)]
    assert events[0][0] == "run_started"
    new = [(kind, step) for kind, stage, step in events if stage == "new"]
    steps = [("step", step) for step in range(1, 13)]
    assert new == [
        ("stage_started", None),
        ("probe", 0),
        # Twelve steps teach the old task nothing: it is at 0 before the first step of the new one.
        ("alert", 0),
        # What the probes cost in so small a model, and what twelve held-out examples bear.
        ("alert", 0),
        ("alert", 0),
        ("danger", 0),
        ("checkpoint", 0),
        *steps[:4], ("probe", 4), ("drift", 4), ("checkpoint", 4),
        *steps[4:6], ("operation_times", 6), *steps[6:8],
        ("probe", 8), ("drift", 8), ("alert", 8), ("danger", 8), ("checkpoint", 8),
        # Nor is the new one learned.
        *steps[8:], ("probe", 12), ("drift", 12), ("alert", 12), ("checkpoint", 12),
        ("stage_finished", None),
    ]  # fmt: skip
    assert events[-1][0] == "run_finished"
    assert_well_told(undisturbed)


def test_danger_is_told_only_where_something_can_be_lost(undisturbed: RunDirectory) -> None:
    told = [
        (e["stage"], e["step"], e["state"], e["window"]) for e in events_of(undisturbed, "danger")
    ]
    assert told == [("new", 0, "entered", 8), ("new", 8, "left", 8)]


def test_window_longer_than_the_stage_ends_with_it(begin: Begin) -> None:
    run = begin("window.steps=150", "train.steps=2")
    assert work(run) == 0
    told = [(e["step"], e["state"], e["window"]) for e in events_of(run, "danger")]
    assert told == [(0, "entered", 2), (2, "left", 2)]


def test_no_window_no_danger(begin: Begin) -> None:
    run = begin("window.steps=0", "train.steps=2")
    assert work(run) == 0
    assert events_of(run, "danger") == []


def test_probes_are_denser_inside_the_window(begin: Begin) -> None:
    run = begin("probe.every_in_window=2", "probe.every=3")
    assert work(run) == 0
    steps = {stage: [] for stage in ("old", "new")}
    for event in events_of(run, "probe"):
        steps[event["stage"]].append(event["step"])
    assert steps == {"old": [0, 3, 6, 9, 12], "new": [0, 2, 4, 6, 8, 9, 12]}


@pytest.fixture(scope="module")
def by_three(profile_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return the run with probes of three examples, the old task measured in nats.

    In nats a small model moves at every step. Tests only read it.
    """
    profile = load_profile(profile_file, ["probe.examples=3", "tasks.old.metric=nll"])
    run = RunDirectory.create(
        tmp_path_factory.mktemp("by-three") / "run",
        profile_text=dump_profile(profile),
        profile_name="quick",
        argv=["sf"],
    )
    assert work(run) == 0
    return run


def test_first_and_last_probe_take_the_whole_held_out_sets(by_three: RunDirectory) -> None:
    run = by_three
    for stage in ("old", "new"):
        probes = [e for e in events_of(run, "probe") if e["stage"] == stage]
        assert [e["full"] for e in probes] == [True, False, False, True]
        for task, whole in (("old", 12), ("new", 18)):
            if task == "new" and stage == "old":
                assert all(task not in e["metrics"] for e in probes)
                continue
            counts = [e["metrics"][task]["n"] for e in probes]
            assert counts == [whole, 3, 3, whole]
            assert [e["subset"][task]["n"] for e in probes if e["full"]] == [3, 3]


def test_drop_is_what_an_old_task_has_lost_on_the_same_examples(by_three: RunDirectory) -> None:
    run = by_three
    # A likelihood is lost when it rises.
    probes = [e for e in events_of(run, "probe") if e["stage"] == "new"]
    paired = [e.get("subset", e["metrics"])["old"]["nll"] for e in probes]
    assert [e["drop"] for e in probes] == pytest.approx([now - paired[0] for now in paired])
    assert all(e["drop"] is None for e in events_of(run, "probe") if e["stage"] == "old")


def test_drop_beyond_its_bound_is_told_and_again_when_it_doubles(begin: Begin) -> None:
    run = begin("tasks.old.metric=nll", "window.alert_drop=0.0", "train.learning_rate=0.3")
    assert work(run) == 0
    drops = {e["step"]: e["drop"] for e in events_of(run, "probe") if e["stage"] == "new"}
    every = [e for e in events_of(run, "alert") if e["code"] == "drop"]
    # At this rate the first stage also loses again what it had learned of its own task.
    alerts = [e for e in every if (e["stage"], e["task"]) != ("old", "old")]
    assert {(e["level"], e["stage"], e["task"]) for e in alerts} == {("warn", "new", "old")}
    told = [drops[e["step"]] for e in alerts]
    assert all(after >= 2 * before > 0 for before, after in itertools.pairwise(told))


def test_task_that_is_not_watched_is_probed_and_never_counted(begin: Begin) -> None:
    run = begin("tasks.old.watch=false", "train.steps=4")
    assert work(run) == 0
    probes = [e for e in events_of(run, "probe") if e["stage"] == "new"]
    assert all("old" in e["metrics"] and e["drop"] is None for e in probes)
    assert events_of(run, "danger") == []


def test_known_first_task_is_probed_and_never_trained(begin: Begin) -> None:
    run = begin("tasks.old.learn=false", "train.steps=4")
    assert work(run) == 0
    (started,) = events_of(run, "stage_started")
    assert (started["stage"], started["known"]) == ("new", ["old"])
    assert all(list(e["metrics"]) == ["old", "new"] for e in events_of(run, "probe"))


def test_recovery_is_a_last_stage_on_a_known_task_and_epochs_count_rows(begin: Begin) -> None:
    steps = ("tasks.old.train.steps=2", "tasks.new.train={epochs=0.5}")
    run = begin("replay_stage.steps=4", "replay_stage.train.learning_rate=0.001", *steps)
    assert work(run) == 0
    started = [
        (e["stage"], e["task"], e["steps"], e["known"]) for e in events_of(run, "stage_started")
    ]
    assert started == [
        ("old", "old", 2, []),
        # 18 questions about three people, four a step, half an epoch.
        ("new", "new", 3, ["old"]),
        ("replay", "old", 4, ["new"]),
    ]
    rates = [e["learning_rate"] for e in events_of(run, "step") if e["stage"] == "replay"]
    assert rates[-1] == 0.001
    assert list(events_of(run)[-1]["metrics"]) == ["old", "new"]


FROZEN = (
    'tasks.old.train.strategy="freeze"',
    "tasks.old.train.freeze={layers=2, embeddings=true}",
    "tasks.new.train.steps=4",
)


def test_strategy_freeze_holds_its_own_stage_alone_and_is_resumed(begin: Begin) -> None:
    run = begin(*FROZEN)
    assert work(run) == 0
    started = {e["stage"]: (e["strategy"], e["frozen"]) for e in events_of(run, "stage_started")}
    assert started == {
        "old": ("freeze", ["embeddings", "block-0", "block-1"]),
        "new": ("seq", []),
    }
    start, end = checkpoint_weights(run, "old", 0), checkpoint_weights(run, "new", 0)
    held = [n for n in start if ".0." in n or ".1." in n or "embed_in" in n]
    assert equal({n: start[n] for n in held}, {n: end[n] for n in held})
    assert not equal(start, end)

    parts = begin(*FROZEN, name="parts")
    assert work(parts, Operator(parts).at("old", 6, "stop")) == 5
    assert work(parts) == 0
    assert equal(final_weights(run), final_weights(parts))


def test_nan_stops_the_run_and_rolls_it_back_until_the_profile_is_mended(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin(BURSTS)
    with pytest.raises(RunError, match="stage 'new', step 2") as caught:
        work(run)
    assert caught.value.exit_code == 1
    assert "a lower [train] learning_rate" in caught.value.hint
    assert_well_told(run)
    (rewound,) = events_of(run, "rewound")
    assert (rewound["stage"], rewound["step"], rewound["lost"]) == ("new", 0, 1)
    assert rewound["reason"] == "nan"
    (alert,) = [e for e in events_of(run, "alert") if e["code"] == "nan"]
    assert (alert["level"], alert["step"]) == ("error", 2)
    finished = events_of(run)[-1]
    assert (finished["status"], finished["exit_code"]) == ("failed", 1)
    assert "a lower [train] learning_rate" in finished["reason"]
    assert finished["metrics"]["old"]["n"] == 12
    # The update was not kept anywhere.
    assert all(
        bool(weight.isfinite().all()) and float(weight.abs().max()) < 1e6
        for weight in checkpoint_weights(run, "new", 0).values()
    )
    assert checkpoints_of(run, "new") == ["step-000000"]
    assert fold(read_events(run.events)).stages["new"].step == 0

    # A resume keeps the rate of the profile.
    with pytest.raises(RunError, match="step 2"):
        work(run)
    rates = [e["learning_rate"] for e in events_of(run, "step") if e["stage"] == "new"]
    assert rates == [0.5e30] * 2
    assert_well_told(run)

    run.profile.write_bytes(undisturbed.profile.read_bytes())
    assert work(run) == 0
    assert_well_told(run)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_checkpoint_of_the_very_step_before_a_nan_is_not_the_last_good_one(begin: Begin) -> None:
    # Its weights are finite, and would give the same loss again.
    run = begin(BURSTS, "checkpoint.every=1", "tasks.old.train.steps=1")
    with pytest.raises(RunError, match="rolled back to step-000000"):
        work(run)
    assert checkpoints_of(run, "new") == ["step-000000", "step-000001~1"]


CONTINUES = (
    'tasks.new.train.on_nan="continue"',
    "tasks.new.train.nan_lr_factor=1e-33",
)


def assert_gone_on(run: RunDirectory) -> None:
    assert_well_told(run)
    assert [e["reason"] for e in events_of(run, "rewound")] == ["nan"]
    rates = [lr for (stage, _), (_, lr, _) in live_course(run).items() if stage == "new"]
    assert len(rates) == 12
    assert rates[2:] == pytest.approx([1e-3] * 10)


def test_nan_behind_a_bad_checkpoint_is_gone_on_from_once(begin: Begin) -> None:
    run = begin(BURSTS, *CONTINUES, "checkpoint.every=1", "tasks.old.train.steps=1")
    assert work(run) == 0
    assert_gone_on(run)


def test_nan_is_gone_on_from_once_at_a_lower_rate_also_by_a_resume(begin: Begin) -> None:
    whole = begin(BURSTS, *CONTINUES, name="whole")
    assert work(whole) == 0
    assert_gone_on(whole)
    parts = begin(BURSTS, *CONTINUES, name="parts")
    for step in (3, 6):
        assert work(parts, Operator(parts).at("new", step, "stop")) == 5
    assert work(parts) == 0
    assert equal(final_weights(whole), final_weights(parts))
    assert live_course(whole) == live_course(parts)


def test_second_nan_ends_the_run(begin: Begin) -> None:
    run = begin(BURSTS, 'tasks.new.train.on_nan="continue"', "tasks.old.train.steps=1")
    with pytest.raises(RunError, match="rolled back"):
        work(run)
    assert [e["reason"] for e in events_of(run, "rewound")] == ["nan", "nan"]
    rates = [e["learning_rate"] for e in events_of(run, "step") if e["stage"] == "new"]
    assert rates == pytest.approx([0.5e30, 0.25e30])
    assert events_of(run)[-1]["exit_code"] == 1


def test_nan_at_the_first_step_has_no_good_checkpoint_to_go_back_to(begin: Begin) -> None:
    run = begin("model.config.initializer_range=1e30")
    with pytest.raises(RunError, match="no good checkpoint"):
        work(run)
    assert events_of(run)[-1]["exit_code"] == 1
    assert events_of(run, "rewound") == []


def test_measures_of_a_burst_model_are_written_as_json(begin: Begin) -> None:
    every = ("probe.every=1", "probe.every_in_window=1", "tasks.old.train.steps=1")
    run = begin(BURSTS, *every)
    heard: list[JsonObject] = []
    with pytest.raises(RunError):
        work(run, heard.append)
    found = [e for e in events_of(run, "probe") if (e["stage"], e["step"]) == ("new", 1)]
    assert found[0]["metrics"]["new"]["exact_match"] == 0
    said = [e for e in heard if e["type"] == "probe"][-1]["metrics"]["new"]["nll"]
    assert not math.isfinite(said) or said > 1e3
    assert fold(read_events(run.events)).status == "failed"
