"""What the danger strip says where there is little room, and what it leaves out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sf_tui.tui.panels.danger_strip import DangerStrip
from sf_tui.vocabulary.events import RunFinished, StageFinished, Step, TasksAtRisk
from support.score_scenes import five_tasks
from tui.driving import console_of, panel_text, screen_text
from tui.written_run import WrittenRun

MakeRun = Callable[..., WrittenRun]


def strip_of(written: WrittenRun, width: int = 80) -> str:
    """Return the strip's first line."""
    return panel_text(written, DangerStrip, width)


@pytest.fixture
def at_risk(make_run: MakeRun) -> WrittenRun:
    written = make_run()
    written.begin()
    written.begin_stage()
    written.name_neighbors()
    written.beat()
    return written


def test_the_nearest_task_at_risk_is_named_from_the_first_step_on(
    at_risk: WrittenRun,
) -> None:
    assert strip_of(at_risk, 120).startswith(
        "DANGER WINDOW 0/150   ● old 0.99 ± 0.06 (64 examples) · 0 since the run began, "
        "0 in this stage   alert at 20 points"
    )
    assert strip_of(at_risk, 160).endswith("   at risk: What is the capital of Peru ?")


def test_the_newest_naming_counts(at_risk: WrittenRun) -> None:
    at_risk.name_neighbors("new", "Who wrote … ?")
    assert "at risk: Who wrote Peru ?" in strip_of(at_risk, 160)


def test_a_question_is_left_out_where_it_has_no_room(at_risk: WrittenRun) -> None:
    at_risk.take_anchor(0)
    at_risk.steps(1, 12)
    strip = strip_of(at_risk, 170)
    assert strip.startswith("DANGER WINDOW 12/150   ● old")
    assert "anchored, KL 0.012, o unanchor" in strip
    assert "at risk" not in strip


@pytest.mark.parametrize("width", range(60, 130, 3))
def test_the_task_at_risk_pushes_nothing_out(at_risk: WrittenRun, width: int) -> None:
    at_risk.steps(1, 40)
    app = console_of(at_risk)
    app.check_worker()
    lines = DangerStrip(app.view).compose_lines(width, 2)
    first, second = ("".join(text for text, _ in line) for line in lines)
    assert "40/150   ● old 0.53 ± 0.12" in first
    assert "· −47 since the run began" in first or "· −47 since start" in first
    # What a score rests on is never given up for an action, which the second line has.
    assert ("(64 examples) · −47 since" in first) == (width >= 66)
    assert "▸ a anchor" in first + second
    assert "f freeze" in first + second or width < 120
    assert max(len(first), len(second)) <= width
    assert ("at risk" in first) == (width >= 200)


def test_a_loss_of_an_earlier_stage_is_shown_at_every_width(make_run: MakeRun) -> None:
    written = five_tasks(make_run)
    app = console_of(written)
    app.check_worker()
    for width in (80, 120, 200):
        lines = DangerStrip(app.view).compose_lines(width, 2)
        text = "\n".join("".join(part for part, _ in line) for line in lines)
        assert "old 0.07 ± 0.07 (7 of 101) · −93 since the run began" in text
        # The repair that is suggested refers to the run's start, whatever stage lost it.
        assert "▸ r recover" in text


def test_a_stage_beside_which_nothing_lies_names_nothing(at_risk: WrittenRun) -> None:
    at_risk.event(TasksAtRisk("new", seconds=0.1))
    assert "at risk" not in strip_of(at_risk, 120)


async def test_an_anchored_run_says_so_in_every_place(at_risk: WrittenRun) -> None:
    at_risk.steps(1, 20)
    at_risk.take_anchor(20, strength=2.0)
    at_risk.steps(21, 30)
    for size in ((80, 24), (120, 40), (200, 60)):
        app = console_of(at_risk)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            header, numbers, strip, *rest = screen_text(app).splitlines()
            assert "running" in header
            assert "anchor KL 0.012" in numbers
            assert numbers.rstrip().endswith("anchored, strength 2")
            assert "anchored" in strip + rest[0]
            assert any(line.startswith("drift") or "weight drift" in line for line in rest)
            assert any("anchored" in line for line in rest if "drift" in line)
            assert "o unanchor" in rest[-1]
            assert "a anchor" not in rest[-1]


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40)])
async def test_what_to_do_after_a_failed_guard_is_in_sight(
    at_risk: WrittenRun, size: tuple[int, int]
) -> None:
    at_risk.steps(1, 120)
    reason = "[guard] new_accuracy: 'new' ended at 0.420, below 0.8; what it asks is not reached"
    at_risk.event(RunFinished("guard_failed", 4, metrics={}, reason=reason))
    app = console_of(at_risk)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        text = screen_text(app)
        assert "Guard failed" in text
        (line,) = (line for line in text.splitlines() if f"sf diagnose {at_risk.run.id}" in line)
        # Where both have no room, the command stays.
        assert ("● old" in line) == (size[0] >= 80)


async def test_without_a_strength_in_the_log_the_profiles_own_is_shown(make_run: MakeRun) -> None:
    written = make_run(profile='name = "p"\n[anchor]\nstrength = 0.25\n')
    written.begin()
    written.begin_stage()
    written.event(
        Step(
            stage="new", step=1, loss=1.0, learning_rate=1e-4, grad_norm=1.0, losses={"anchor": 0.1}
        )
    )
    written.beat()
    app = console_of(written)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "anchored, strength 0.25" in screen_text(app)


async def test_replay_shows_the_anchor_where_the_cursor_is(at_risk: WrittenRun) -> None:
    at_risk.steps(1, 50)
    at_risk.take_anchor(50)
    at_risk.steps(51, 80)
    app = console_of(at_risk)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("[")
        assert app.view.step == 80
        assert "anchored" in screen_text(app).splitlines()[2]
        for _ in range(7):
            await pilot.press("[")
        assert app.view.step == 45
        assert "anchored" not in screen_text(app).splitlines()[2]


def test_behind_the_end_the_command_that_helps_is_named(at_risk: WrittenRun) -> None:
    at_risk.steps(1, 300)
    at_risk.event(StageFinished(stage="new", task="new", strategy="seq", steps=300))
    at_risk.event(RunFinished(status="completed", exit_code=0, metrics={}, reason=""))
    at_risk.beat(age_s=100)
    assert f"▸ sf diagnose {at_risk.run.id}" in strip_of(at_risk, 200)
