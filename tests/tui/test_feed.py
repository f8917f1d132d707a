from __future__ import annotations

from collections.abc import Callable

import pytest

from sf_tui.run.commands import request_command
from sf_tui.tui import feed as feed_module
from sf_tui.tui.feed import RunFeed
from sf_tui.vocabulary.events import TasksAtRisk
from tui.written_run import WrittenRun

MakeRun = Callable[..., WrittenRun]


def test_a_half_written_line_is_not_there_yet(running: WrittenRun) -> None:
    feed = RunFeed(running.run)
    with running.run.events.open("ab") as file:
        file.write(b'{"seq":999,"type":"step","stage":"new","step":86,"lo')
    assert not feed.poll()
    with running.run.events.open("ab") as file:
        file.write(b'ss":1.5,"learning_rate":1e-4,"grad_norm":1.0,"tokens_per_second":1.0}\n')
    assert feed.poll()
    assert feed.live.curves.stages["new"].loss.last_value == 1.5


def test_events_of_a_newer_version_are_passed_over(running: WrittenRun) -> None:
    running.write({"type": "hologram", "stage": "new", "step": 85, "beams": 3})
    running.write({"type": "probe", "stage": "new"})
    running.write({"type": "drift", "stage": "new", "step": 85, "layers": {"not": "a list"}})
    running.step(86)
    feed = RunFeed(running.run)
    assert feed.live.damaged_lines == 2
    assert feed.live.stage is not None
    assert feed.live.stage.step == 86


def test_a_command_is_one_row_from_request_to_done(running: WrittenRun) -> None:
    feed = RunFeed(running.run)
    identity = request_command(running.run, "freeze", by="ana@gpu7 pts/3")
    assert feed.poll()
    row = feed.live.activity.commands[identity]
    assert row.text == "freeze: requested"
    running.command(identity, "freeze", "accepted", 85, by="ana@gpu7 pts/3")
    running.command(identity, "freeze", "done", 85, by="ana@gpu7 pts/3")
    feed.poll()
    assert row.text == "freeze: requested > accepted @85 > done"
    assert row.asked_by == "ana@gpu7 pts/3"
    assert row.contains("gpu7")
    assert not row.is_under_way
    assert list(feed.live.activity.rows).count(row) == 1


def test_a_refusal_says_why(running: WrittenRun) -> None:
    running.command("c-9", "unfreeze", "refused", 85, reason="nothing is frozen")
    row = RunFeed(running.run).live.activity.commands["c-9"]
    assert row.text == "unfreeze: requested > refused @85 (nothing is frozen)"
    assert row.level == "error"


def test_the_task_at_risk_is_told_once_for_each_naming(running: WrittenRun) -> None:
    feed = RunFeed(running.run)
    running.name_neighbors()
    running.event(TasksAtRisk(stage="new", step=0, prompts=0, seconds=0.1, groups=[]))
    feed.poll()
    texts = [row.text for row in feed.live.activity.rows][-2:]
    assert texts == [
        "at risk: What is the capital of Peru ? (1 of 3 candidates)",
        "no other task's questions are likely beside the new ones",
    ]
    assert feed.live.damaged_lines == 0


def test_a_verdict_is_told_with_its_interval(running: WrittenRun) -> None:
    running.old = 0.41
    running.diagnose(85)
    row = RunFeed(running.run).live.activity.rows[-1]
    assert row.text == (
        "verdict spurious: now 0.41, after the recovery test 0.95; "
        "spurious share 0.92 (0.88 to 0.96)"
    )


def test_a_rule_is_named_with_what_made_it_fire(running: WrittenRun) -> None:
    running.command(
        "p:new:40:0", "freeze", "accepted", 40, by="protect-old-task", by_rule=True, value=0.23
    )
    row = RunFeed(running.run).live.activity.commands["p:new:40:0"]
    assert row.text == "freeze by rule protect-old-task at 0.230: accepted @40"
    assert row.asked_by == ""


@pytest.fixture
def long_run(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> WrittenRun:
    """Return a run whose log is large for the sizes that this test sets."""
    written = make_run()
    written.begin(steps=2000)
    written.begin_stage(steps=2000)
    written.steps(1, 900)
    monkeypatch.setattr(feed_module, "WHOLE_UP_TO_BYTES", 10_000)
    monkeypatch.setattr(feed_module, "TAIL_BYTES", 20_000)
    return written


def test_of_a_long_log_the_end_is_known_first_and_all_of_it_later(long_run: WrittenRun) -> None:
    feed = RunFeed(long_run.run)
    assert feed.progress is not None
    stage = feed.live.stage
    assert stage is not None
    assert (stage.name, stage.step, stage.steps) == ("new", 900, 2000)
    assert feed.live.curves.stages["new"].loss.value_at(100) is None

    long_run.step(901)
    assert feed.poll()
    while feed.read_history(0.0001):
        assert feed.progress is not None
    assert feed.progress is None
    assert feed.live.curves.stages["new"].window == 150
    assert feed.live.curves.stages["new"].loss.value_at(1) is not None
    assert feed.live.curves.stages["new"].loss.last_x == 901

    long_run.step(902)
    assert feed.poll()
    assert feed.live.curves.stages["new"].loss.last_x == 902
    assert not feed.poll()


def test_a_long_log_tells_the_same_in_parts_as_at_once(
    long_run: WrittenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = RunFeed(long_run.run)
    while parts.read_history(0.001):
        pass
    monkeypatch.setattr(feed_module, "WHOLE_UP_TO_BYTES", 1 << 30)
    whole = RunFeed(long_run.run)
    for name, stage in whole.live.curves.stages.items():
        other = parts.live.curves.stages[name]
        assert list(stage.loss.buckets(0, 2000)) == list(other.loss.buckets(0, 2000))
    assert [row.text for row in whole.live.activity.rows] == [
        row.text for row in parts.live.activity.rows
    ]


def test_old_probes_are_not_kept_one_by_one(make_run: MakeRun) -> None:
    written = make_run()
    written.begin(steps=5000)
    written.begin_stage(steps=5000)
    for step in range(1, 1500):
        written.probe(step)
    history = RunFeed(written.run).live
    assert history.stage is not None
    assert len(history.stage.probes) <= 801
    assert history.stage.probes[0].step == 0
