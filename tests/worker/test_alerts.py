"""Alerts and danger windows: which, when again, and the same ones after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from sf_tui.engine.checkpoint import list_checkpoints
from sf_tui.engine.prepare import PreparedRun, prepare_run
from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventLog, JsonObject, read_events
from sf_tui.run.state import fold
from sf_tui.vocabulary.events import Probe, StageStarted
from sf_tui.vocabulary.measured import Drop, Score, drop_between
from sf_tui.vocabulary.metrics import METRICS
from sf_tui.worker.checkpoints import CheckpointStore
from sf_tui.worker.context import RunContext
from sf_tui.worker.inbox import CommandInbox
from sf_tui.worker.learning_alerts import early_look, rate_levers
from sf_tui.worker.loss_alerts import LossAlerts
from sf_tui.worker.resume_log import ResumeLog
from sf_tui.worker.rules import RuleWatch
from sf_tui.worker.stop import StopSignals
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

EXACT = METRICS["exact_match"]
N = 101


@pytest.fixture(scope="module")
def prepared(profile_file: Path) -> PreparedRun:
    """Return model and tasks, which none of these tests changes."""
    return prepare_run(load_profile(profile_file), 1)


@pytest.fixture
def context(begin: Begin, prepared: PreparedRun) -> Iterator[RunContext]:
    """Return a worker's context with a log that has two stages, the first one lossless."""
    run = begin()
    profile = load_profile(run.profile)
    log = EventLog(run.events)
    found = RunContext(
        run,
        log,
        ResumeLog(),
        prepared,
        CheckpointStore(run, profile.checkpoint),
        CommandInbox(run.commands),
        StopSignals(),
        RuleWatch([]),
    )
    for stage, known in (("two", ["old"]), ("three", ["old", "two"])):
        found.log_event(StageStarted(stage, stage, 300, known=known))
        if stage == "two":
            found.log_event(Probe(stage, 0, {"old": {"exact_match": 1.0, "n": N}}, full=True))
    yield found
    log.close()


def alerts_of(context: RunContext) -> LossAlerts:
    return LossAlerts(context, "three", "new", old=lambda: "f freeze", new=lambda: "o unanchor")


def lost(right: int, start: int = N, examples: int = N) -> Drop:
    before = Score(start / examples, examples, EXACT)
    after = Score(right / examples, examples, EXACT)
    return drop_between(before, after, (start - right, 0))


def play(context: RunContext, alerts: LossAlerts, *rights: int, first: int = 5) -> list[int]:
    """Return the steps at which a task of so many right answers raised an alert."""
    before = len(context.resume_log.state.alerts)
    for place, right in enumerate(rights):
        alerts.check(first + 5 * place, {"two": lost(right)}, None)
    return [alert.step for alert in context.resume_log.state.alerts[before:]]


def test_alert_names_the_task_its_scores_and_what_to_do(context: RunContext) -> None:
    assert play(context, alerts_of(context), 53, first=20) == [20]
    (alert,) = context.resume_log.state.alerts
    assert (alert.level, alert.code, alert.task, alert.stage) == ("warn", "drop", "two", "three")
    assert alert.message == (
        "two lost 48 points (1.00 to 0.52 ± 0.10, 101 examples) by step 20; "
        "the alert is at 20 points. f freeze"
    )


def test_alert_waits_until_the_interval_is_past_the_bound(context: RunContext) -> None:
    # 101 - 79 are 22 points lost, and their interval begins at 14; 35 lost is past 20 altogether.
    assert play(context, alerts_of(context), 79, 66) == [10]


def test_alert_is_given_again_for_each_further_loss_of_its_size(context: RunContext) -> None:
    # 48, 55, 74, 80 and 95 points.
    assert play(context, alerts_of(context), 53, 46, 26, 20, 5) == [5, 15, 25]


def test_alert_is_given_again_after_a_recovery_and_after_an_op(context: RunContext) -> None:
    alerts = alerts_of(context)
    assert play(context, alerts, 53, 95, 53) == [5, 15]
    assert play(context, alerts, 53, first=20) == []
    alerts.arm()
    assert play(context, alerts, 53, 53, first=25) == [25]


def test_alert_state_survives_a_checkpoint_and_a_repeated_step_says_nothing_twice(
    context: RunContext,
) -> None:
    alerts = alerts_of(context)
    state = orjson.loads(orjson.dumps(alerts.state))
    assert play(context, alerts, 53, 40, 26) == [5, 15]
    again = alerts_of(context)
    again.restore(state)
    assert play(context, again, 53, 40, 26, 5) == [20]


def test_loss_since_the_run_began_is_told_in_a_later_stage(context: RunContext) -> None:
    # 12 points went in an earlier stage, 25 here: too few for an interval past 20.
    context.log_event(
        Probe(
            "three", 0, {"old": {"exact_match": 89 / N, "n": N}}, full=True, flips={"old": (0, 0)}
        )
    )
    context.log_event(
        Probe("three", 5, {"old": {"exact_match": 64 / N, "n": N}}, flips={"old": (25, 0)})
    )
    alerts = alerts_of(context)
    alerts.check(5, {"old": lost(64, start=89)}, None)
    alerts.check(10, {"old": lost(64, start=89)}, None)
    (alert,) = context.resume_log.state.alerts
    assert alert.message.startswith(
        "old lost 37 points since the run began, 25 points in this stage"
    )


def test_new_task_that_was_learned_and_is_lost_again_is_told(context: RunContext) -> None:
    alerts = alerts_of(context)
    for step, right in ((5, 2), (10, 40), (15, 39), (20, 14), (25, 13)):
        alerts.check(step, {}, Score(right / 40, 40, EXACT))
    (alert,) = context.resume_log.state.alerts
    assert (alert.task, alert.step) == ("new", 20)
    assert "of what it had learned (1.00 to 0.35" in alert.message
    assert alert.message.endswith("o unanchor")


@pytest.mark.parametrize(
    ("window", "steps", "step"), [(150, 300, 150), (150, 2000, 667), (60, 60, 20), (0, 300, 100)]
)
def test_early_look_is_at_a_third_but_not_inside_the_window(
    window: int, steps: int, step: int
) -> None:
    assert early_look(window, steps) == step


SETTINGS = (
    "tasks.old.metric=nll",
    "window.steps=3",
    "window.alert_drop=0.02",
    "train.learning_rate=0.03",
    "probe.every=4",
    "probe.every_in_window=1",
    "probe.examples=6",
)


def operate(run: RunDirectory) -> Operator:
    operator = Operator(run).at("new", 4, "freeze", layers=1).at("new", 5, "unfreeze")
    operator.at("new", 7, "interpolate", keep=0.5)
    return operator.at("new", 11, "rollback", to="step-000007")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a finished run in which much was lost and undone; tests only read it."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "quick.toml").write_text(PROFILE)
    text = dump_profile(load_profile(folder / "quick.toml", SETTINGS))
    run = RunDirectory.create(folder / "run", profile_text=text, profile_name="quick", argv=["sf"])
    assert work(run, operate(run)) == 0
    assert_well_told(run)
    return run


def windows_of(run: RunDirectory) -> list[tuple[str, int, int, str]]:
    return [
        (e["state"], e["step"], e["window"], e.get("cause", "")) for e in events_of(run, "danger")
    ]


def alerts_in(run: RunDirectory) -> list[tuple[str, str, int, str]]:
    return [
        (e["code"], e.get("task", ""), e["step"], e["message"])
        for e in events_of(run, "alert")
        if e["code"] in {"drop", "not-learned", "few-examples"}
    ]


def test_acts_open_a_danger_window_with_their_name(watched: RunDirectory) -> None:
    assert windows_of(watched) == [
        ("entered", 0, 3, ""),
        ("left", 3, 3, ""),
        ("entered", 5, 3, "unfreeze"),
        ("entered", 7, 3, "interpolate"),
        ("left", 10, 3, "interpolate"),
        # The rollback goes back to step 7, whose window is open again.
        ("left", 10, 3, "interpolate"),
    ]
    windows = fold(read_events(watched.events)).stages["new"].windows
    assert [(w.start, w.length, w.cause) for w in windows] == [
        (0, 3, ""),
        (5, 2, "unfreeze"),
        (7, 3, "interpolate"),
    ]


def test_rollback_to_a_safe_step_opens_a_window_that_ends_with_the_stage(begin: Begin) -> None:
    run = begin("window.steps=2")
    operator = Operator(run).at("new", 5, "rollback", to="step-000004")
    assert work(run, operator.at("new", 11, "rollback", to="step-000004")) == 0
    assert windows_of(run) == [
        ("entered", 0, 2, ""),
        ("left", 2, 2, ""),
        ("entered", 4, 2, "rollback"),
        ("left", 6, 2, "rollback"),
        # The checkpoint is older than the first rollback's window, so the second opens its own.
        ("entered", 4, 2, "rollback"),
        ("left", 6, 2, "rollback"),
    ]
    windows = fold(read_events(run.events)).stages["new"].windows
    assert [(w.start, w.length, w.cause) for w in windows] == [(0, 2, ""), (4, 2, "rollback")]


def test_probes_are_dense_inside_every_window(watched: RunDirectory) -> None:
    steps = [e["step"] for e in events_of(watched, "probe") if e["stage"] == "new"]
    # Twice at step 7 around the edit, and once more behind the rollback to it.
    assert steps == [0, 1, 2, 3, 4, 6, 7, 7, 8, 9, 10, 7, 8, 9, 10, 12]


def interesting(events: list[JsonObject]) -> list[int]:
    """Return the moments around alerts, danger windows, rewinds and answers in the last stage."""
    kinds = {"alert", "danger", "rewound", "command"}
    return [e["seq"] for e in events if e["type"] in kinds and e.get("stage") == "new"]


def test_kill_doubles_no_alert_and_loses_none(watched: RunDirectory, tmp_path: Path) -> None:
    assert any(code == "drop" for code, *_ in alerts_in(watched))
    assert_alerts_again(watched, tmp_path, interesting(events_of(watched))[::9])


@pytest.mark.slow
def test_kill_at_any_moment_doubles_no_alert_and_loses_none(
    watched: RunDirectory, tmp_path: Path
) -> None:
    assert_alerts_again(watched, tmp_path, interesting(events_of(watched)))


def assert_alerts_again(watched: RunDirectory, tmp_path: Path, moments: list[int]) -> None:
    """Kill the run at each moment and resume it."""
    for count in moments:
        (tmp_path / f"{count}").mkdir()
        # Under its own name, which the advice after the last step contains.
        run = put_back(watched, tmp_path / f"{count}" / watched.id, count, late=False)
        assert work(run, operate(run)) == 0
        assert equal(final_weights(run), final_weights(watched)), count
        assert live_course(run) == live_course(watched), count
        assert alerts_in(run) == alerts_in(watched), count
        assert windows_of(run) == windows_of(watched), count


def test_probe_and_alert_of_a_rollback_survive_a_kill_behind_it(
    begin: Begin, tmp_path: Path
) -> None:
    # The checkpoint of step 6 has the probe of step 4: only the one behind the rollback shows more.
    settings = ("probe.every_in_window=4", "tasks.new.train.learning_rate=0.3")
    run = begin(*SETTINGS, *settings, name="whole")

    def plan(run: RunDirectory) -> Operator:
        operator = Operator(run).at("new", 6, "checkpoint")
        return operator.at("new", 7, "rollback", to="step-000006")

    assert work(run, plan(run)) == 0
    told = events_of(run)
    back = next(e["seq"] for e in told if e["type"] == "rewound")
    done = next(e["seq"] for e in told if e["type"] == "command" and e["seq"] > back)
    kinds = [e["type"] for e in told[back : done - 1]]
    assert kinds == ["danger", "probe", "drift", "alert"]
    alerted = [step for code, _, step, _ in alerts_in(run) if code == "drop"]
    assert 6 in alerted
    for count in (back, done):
        (tmp_path / f"{count}").mkdir()
        killed = put_back(run, tmp_path / f"{count}" / run.id, count, late=False)
        assert work(killed, plan(killed)) == 0
        assert live_probes(killed) == live_probes(run), count
        assert alerts_in(killed) == alerts_in(run), count
        assert windows_of(killed) == windows_of(run), count
        assert equal(final_weights(killed), final_weights(run)), count


def test_every_checkpoint_folder_is_told_with_its_own_probe(watched: RunDirectory) -> None:
    newest = {event["path"]: event for event in events_of(watched, "checkpoint")}
    for stage in ("old", "new"):
        for checkpoint in list_checkpoints(watched.checkpoints / stage):
            event = newest[str(checkpoint.path.relative_to(watched.path))]
            assert event["metrics"] == checkpoint.state["accuracy"]
            assert event["probed_at"] == checkpoint.state["probed_at"]
            assert event["step"] == checkpoint.step
    aside = [path for path in newest if "~" in path]
    assert aside
    current = fold(read_events(watched.events)).current_checkpoints("new")
    assert not [event.path for event in current if event.is_aside]


def test_flips_are_of_the_examples_behind_the_metrics(begin: Begin) -> None:
    run = begin("tasks.old.metric=first_token_accuracy", "probe.examples=5", "train.steps=24")
    assert work(run) == 0
    starts: dict[str, float] = {}
    for event in events_of(run, "probe"):
        full = event["full"]
        measures = event["metrics"]["old"]
        key = f"{event['stage']}-{full}"
        if event["step"] == 0:
            starts[key] = measures["first_token_accuracy"]
            starts[f"{event['stage']}-False"] = event["subset"]["old"]["first_token_accuracy"]
        gone, come = event["flips"]["old"]
        changed = (measures["first_token_accuracy"] - starts[key]) * measures["n"]
        assert come - gone == pytest.approx(changed)


def test_task_that_is_not_learned_is_told_early_and_at_the_end(undisturbed: RunDirectory) -> None:
    found = [e for e in events_of(undisturbed, "alert") if e["code"] == "not-learned"]
    places = [(e["stage"], e["task"], e["step"]) for e in found]
    assert places == [("old", "old", 4), ("old", "old", 12), ("new", "new", 8), ("new", "new", 12)]
    message = found[-1]["message"]
    assert (
        "new is at 0.00 ± 0.18 after 12 of 12 steps (2.7 epochs) at learning rate 0.003" in message
    )
    # The rate is the usual one at this width: ten times as much would break the model.
    assert message.endswith("it was not learned; in another run, raise [train] steps (try 24)")


def test_only_a_rate_far_from_the_usual_one_is_blamed() -> None:
    assert rate_levers(8.3e-4, 8.3e-4, True) == ""
    assert rate_levers(3e-4, 8.3e-4, False) == ""
    assert "raise [train] learning_rate (try 0.00083)" in rate_levers(1e-6, 8.3e-4, False)
    assert "raise [train] learning_rate (try 0.00083)" in rate_levers(2e-4, 8.3e-4, True)
    assert "lower [train] learning_rate (try 0.00083)" in rate_levers(8.3e-3, 8.3e-4, True)
    assert "raise [train] learning_rate (try 0.01)" in rate_levers(1e-3, None, False)
    assert rate_levers(1e-3, None, True) == ""


def test_anchored_task_that_is_not_learned_is_told_the_strength(begin: Begin) -> None:
    run = begin('tasks.new.train.strategy="anchor"', "anchor.strength=100.0")
    assert work(run) == 0
    found = [e for e in events_of(run, "alert") if e["code"] == "not-learned"]
    assert "lower [anchor] strength, now 100" in found[-1]["message"]


def test_advice_of_an_alert_names_only_what_would_not_be_refused(begin: Begin) -> None:
    run = begin(*SETTINGS, 'tasks.new.train.strategy="anchor"')
    assert work(run, Operator(run).at("new", 1, "freeze", layers=2)) == 0
    found = [e for e in events_of(run, "alert") if e["code"] == "drop" and e["stage"] == "new"]
    assert found
    for alert in found:
        assert "a anchor" not in alert["message"]
        if 1 < alert["step"] < 12:
            assert "f freeze" not in alert["message"]
            assert "d diagnose" in alert["message"]
        if alert["step"] == 12:
            assert f"`sf diagnose {run.id}`" in alert["message"]


def test_nan_is_told_in_short_numbers_with_what_to_do(begin: Begin) -> None:
    run = begin("tasks.new.train.learning_rate=1e30")
    with pytest.raises(Exception, match="step 2"):
        work(run)
    (alert,) = [e for e in events_of(run, "alert") if e["code"] == "nan"]
    plans = [e["message"] for e in events_of(run, "alert") if e["code"] == "plan"]
    assert any("3.3e+32 times above what suits" in message for message in plans)
    told = (alert["message"], events_of(run)[-1]["reason"])
    for said in told:
        assert "a lower [train] learning_rate (now 1e+30)" in said
    for said in (*told, *plans):
        assert not any(len(word.strip(";,.")) > 30 for word in said.split())
