"""In replay everything is as it was at the cursor, and abandoned branches are visibly so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sf_tui.tui.activity import Kind
from sf_tui.tui.panels.danger_strip import DangerStrip
from sf_tui.tui.panels.lists import Events
from sf_tui.vocabulary.events import (
    CheckpointWritten,
    Probe,
    Rewound,
    RunFinished,
    StageFinished,
)
from tui.driving import console_of, screen_text
from tui.written_run import WrittenRun

MakeRun = Callable[..., WrittenRun]
SIZE = (120, 40)
STAGES = ("new", "new-2", "new-3", "new-4")


def strip_text(app: object) -> str:
    panel = app.screen.query_one(DangerStrip)  # type: ignore[attr-defined]
    return "\n".join("".join(text for text, _ in line) for line in panel.compose_lines(200, 2))


@pytest.fixture
def five_tasks(make_run: MakeRun) -> WrittenRun:
    """Return a finished run: new-2 is lost most in the third stage, old over the whole run."""
    written = make_run()
    written.begin(stages=STAGES, steps=60)
    values = {"old": 1.0}
    for stage in STAGES:
        written.begin_stage(stage, steps=60, known=tuple(values), probes=values | {stage: 0.0})
        values[stage] = 0.0
        for step in range(1, 61):
            written.step(step, stage)
            if step % 20 == 0:
                values[stage] = step / 60
                values["old"] = max(values["old"] - 0.02, 0.0)
                if stage == "new-3":
                    values["new-2"] = 1 - step / 100
                if stage == "new-4":
                    values["old"] = 0.02
                written.probe_all(step, stage, values)
        values[stage] = 1.0
        written.event(StageFinished(stage=stage, task=stage, strategy="seq", steps=60))
    written.event(RunFinished(status="completed", exit_code=0))
    written.beat(age_s=100)
    return written


async def test_the_strip_names_the_task_that_lost_most_at_the_cursor(
    five_tasks: WrittenRun,
) -> None:
    app = console_of(five_tasks)
    async with app.run_test(size=SIZE) as pilot:
        assert app.view.live.worst_known == "old"
        for _ in range(30):
            if app.view.place and app.view.place.stage == "new-3" and app.view.step == 40:
                break
            await pilot.press("[")
        assert app.view.live.worst_known == "new-2"
        text = strip_text(app)
        assert "new-2" in text
        assert "new-4" not in screen_text(app).splitlines()[2], "it had not begun"
        assert app.view.live.stage is not None
        assert list(app.view.live.stages) == ["new", "new-2", "new-3"]
        await pilot.press("escape")
        assert app.view.live.worst_known == "old"


async def test_events_diagnosis_and_freeze_move_with_the_cursor(running: WrittenRun) -> None:
    running.freeze(85)
    running.probe(85)
    running.steps(86, 100)
    running.diagnose(100)
    running.steps(101, 150)
    running.command("c-9", "recover", "accepted", 150)
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        assert "spurious" in screen_text(app)
        assert app.view.frozen_layers
        while app.view.step > 90:
            await pilot.press("[")
        assert app.view.live.diagnosis is None
        assert "diagnosis" not in screen_text(app), "its panel"
        assert app.view.frozen_layers, "frozen at 85"
        events = app.screen.query_one(Events)
        rows = ["".join(text for text, _ in line) for line in events.compose_lines(100, 50)]
        assert any("freeze" in row for row in rows)
        assert not any("verdict" in row or "recover" in row for row in rows)
        while app.view.step > 80:
            await pilot.press("[")
        assert app.view.frozen_layers == []
        assert app.view.live.activity.newest_command() is None


async def test_a_command_is_shown_as_far_as_it_was_then(running: WrittenRun) -> None:
    running.command("c-3", "diagnose", "accepted", 85)
    running.steps(86, 100)
    running.command("c-3", "diagnose", "done", 85)
    running.steps(101, 110)
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        newest = app.view.live.activity.commands["c-3"]
        assert "done" in newest.text
        await pilot.press("[", "[", "[", "[")
        assert app.view.step == 95
        assert app.view.live.activity.commands["c-3"].text.endswith("accepted @85")
        assert "done" in newest.text


@pytest.fixture
def rolled_back(running: WrittenRun) -> WrittenRun:
    """Return a run that went from step 150 back to 100, with a freeze and an anchor in between."""
    running.steps(86, 120)
    running.freeze(120)
    running.probe(120)
    running.take_anchor(130)
    running.steps(131, 149)
    running.event(
        CheckpointWritten(stage="new", step=149, path="checkpoints/new/step-000149", bytes=1)
    )
    running.command("c-8", "rollback", "accepted", 149)
    running.event(
        Rewound(stage="new", step=100, reason="rollback", lost=49, checkpoint="step-000100")
    )
    running.command("c-8", "rollback", "done", 149)
    running.frozen, running.anchor = (), None
    return running


async def test_what_a_rollback_undid_is_no_mark_and_no_stop(rolled_back: WrittenRun) -> None:
    rolled_back.steps(101, 148)
    app = console_of(rolled_back)
    async with app.run_test(size=SIZE) as pilot:
        marks = [(row.kind, row.step) for row in app.view.live.marks(*Kind)]
        assert (Kind.ACTION, 120) not in marks
        assert (Kind.ACTION, 130) not in marks
        assert (Kind.CHECKPOINT, 149) not in marks
        assert (Kind.CHECKPOINT, 100) in marks
        stops = []
        for _ in range(6):
            await pilot.press("p")
            stops.append(app.view.step)
        assert not {120, 130, 149} & set(stops)
        assert 100 in stops, "the rollback itself"


async def test_abandoned_entries_say_so_and_the_rollback_what_it_let_go(
    rolled_back: WrittenRun,
) -> None:
    app = console_of(rolled_back)
    async with app.run_test(size=SIZE):
        rows = {row.text: row.abandoned for row in app.view.live.activity.rows}
        assert [text for text, gone in rows.items() if gone and "freeze" in text]
        assert [text for text, gone in rows.items() if gone and "anchor" in text]
        assert not any(gone for text, gone in rows.items() if "rollback" in text)
        (back,) = [row for row in app.view.live.activity.rows if row.kind is Kind.REWIND]
        assert "no longer anchored" in back.text
        assert "no layer frozen any more" in back.text
        text = screen_text(app)
        assert "abandoned: freeze" in text
        assert app.view.anchor is None
        assert app.view.frozen_layers == []


async def test_after_a_rollback_the_title_has_the_checkpoints_value(running: WrittenRun) -> None:
    running.steps(86, 100)
    lost = running.old
    running.command("c-4", "recover", "accepted", 100)
    running.command("c-4", "recover", "done", 100)
    running.old = 0.99
    running.probe(100)
    running.steps(101, 110)
    running.event(
        Rewound(stage="new", step=100, reason="rollback", lost=10, checkpoint="step-000100")
    )
    app = console_of(running)
    async with app.run_test(size=SIZE):
        assert app.view.accuracy_now("old") == pytest.approx(lost)
        curve = app.view.live.curves.stages["new"].accuracy["old"]
        assert (curve.last_x, curve.last_value) == (100, pytest.approx(lost))


async def test_deleted_checkpoints_have_no_ring(running: WrittenRun) -> None:
    running.steps(86, 230)
    (running.run.checkpoints / "new" / "step-000100").rmdir()
    app = console_of(running)
    async with app.run_test(size=SIZE):
        rings = [row.step for row in app.view.live.marks(Kind.CHECKPOINT)]
        assert rings == [0, 200]


async def test_a_resume_says_that_the_pause_is_over(running: WrittenRun) -> None:
    running.command("c-5", "pause", "accepted", 85)
    running.command("c-5", "pause", "done", 85)
    running.event(Rewound(stage="new", step=0, reason="resumed", lost=85))
    app = console_of(running)
    async with app.run_test(size=SIZE):
        assert "85 steps lost; the pause is over" in screen_text(app)
        (action,) = [row for row in app.view.live.activity.rows if row.kind is Kind.ACTION]
        assert not action.abandoned, "a resume repeats what was done"


async def test_replay_of_the_probes_own_values(five_tasks: WrittenRun) -> None:
    app = console_of(five_tasks)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("[", "[")
        stage = app.view.live.stage
        assert stage is not None
        probe = stage.probes[-1]
        assert isinstance(probe, Probe)
        assert probe.step == app.view.step
        for task in app.view.tasks:
            assert app.view.accuracy_now(task) == probe.metrics[task]["exact_match"]
