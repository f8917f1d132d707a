"""A long operation is announced, shown while it runs, and ended by esc or by its own key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sf_tui.run.commands import CommandTail
from sf_tui.run.sender import sender_name
from sf_tui.vocabulary.commands import Command
from sf_tui.vocabulary.operation_events import OperationProgress, OperationTimes
from tui.driving import SIZE, console_of, let_time_pass, open_dialog, screen_text, sent
from tui.written_run import PROFILE, WrittenRun

WITH_CANCEL = PROFILE + '\n[actions.cancel]\nop = "cancel"\n'


@pytest.fixture
def diagnosing(running: WrittenRun) -> WrittenRun:
    """Return a run whose worker is at the second arm of a diagnosis."""
    running.run.profile.write_text(WITH_CANCEL)
    running.command("c-3", "diagnose", "accepted", 85)
    running.event(OperationProgress(id="c-3", op="diagnose", stage="new", step=85))
    running.event(at_second_arm("c-3", done=120, total=457, score=0.612, elapsed_s=12.0))
    return running


def at_second_arm(identity: str, **more: Any) -> OperationProgress:
    """Return the progress of a diagnosis in its second arm."""
    return OperationProgress(
        id=identity,
        op="diagnose",
        stage="new",
        step=85,
        part="neighbors",
        number=2,
        parts=3,
        left_s=34.0,
        **more,
    )


async def test_a_new_worker_that_is_loading_does_not_do_what_the_dead_one_did(
    diagnosing: WrittenRun,
) -> None:
    app = console_of(diagnosing)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        assert "diagnosing: training waits" in screen_text(app)
        let_time_pass(app, 10.0)
        diagnosing.beat(age_s=-10.0, began_s=diagnosing.now_s + 5.0)
        app.poll()
        await pilot.pause()
        text = screen_text(app)
        assert "training waits" not in text
        assert "about 34 s left" not in text
        diagnosing.event(at_second_arm("c-3", done=1, total=457, score=0.5, elapsed_s=0.5))
        let_time_pass(app, 10.0)
        diagnosing.beat(age_s=-20.0, began_s=diagnosing.now_s - 0.1)
        app.poll()
        await pilot.pause()
        assert "diagnosing: training waits" in screen_text(app)


async def test_the_strip_shows_how_far_it_is_and_the_footer_how_to_end_it(
    diagnosing: WrittenRun,
) -> None:
    app = console_of(diagnosing)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        text = screen_text(app)
        assert "diagnosing: training waits   esc cancel   about 34 s left" in text
        assert "2 of 3 neighbors   step 120/457   score 0.612" in text
        assert text.splitlines()[-1].startswith("esc cancel  ")
        let_time_pass(app, 10.0)
        diagnosing.beat(age_s=-10.0)
        app.poll()
        await pilot.pause()
        assert "about 24 s left" in screen_text(app)


@pytest.mark.parametrize("size", [(80, 24), (50, 15), (200, 60)])
async def test_how_to_end_it_is_in_sight_at_every_size(
    diagnosing: WrittenRun, size: tuple[int, int]
) -> None:
    app = console_of(diagnosing)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        assert "diagnosing: training waits" in screen_text(app)
        assert "esc cancel" in screen_text(app)


async def test_esc_cancels_it_by_its_id_after_it_has_left_replay(diagnosing: WrittenRun) -> None:
    app = console_of(diagnosing)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("[")
        await pilot.press("escape")
        assert sent(diagnosing) == []
        await pilot.press("escape")
        assert sent(diagnosing) == [("cancel", {"command": "c-3"})]
        diagnosing.command("c-3", "diagnose", "cancelled", 85, reason="by ana; as before")
        diagnosing.beat()
        let_time_pass(app)
        app.poll()
        await pilot.pause()
        text = screen_text(app)
        assert "cancelled" in text
        assert "training waits" not in text


async def test_the_key_of_another_ones_diagnosis_does_not_end_it(diagnosing: WrittenRun) -> None:
    app = console_of(diagnosing)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("d")
        await pilot.pause()
        assert sent(diagnosing) == []
        wanted = "diagnose: already under way, asked for by ana@gpu7 pts/3; esc cancels it"
        assert wanted in screen_text(app)


async def test_a_second_press_ends_what_the_first_one_began(running: WrittenRun) -> None:
    running.run.profile.write_text(WITH_CANCEL)
    running.event(OperationTimes(stage="new", step=85, seconds={"diagnose": 45.0}))
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("d")
        await pilot.pause()
        assert "diagnose: training waits, about 45 s; esc cancels" in screen_text(app)
        identity = next(iter(app.view.newest.activity.commands), "")
        let_time_pass(app)
        app.poll()
        identity = list(app.view.newest.activity.commands)[-1]
        running.command(identity, "diagnose", "accepted", 85, by=sender_name())
        running.beat()
        let_time_pass(app)
        app.poll()
        await pilot.press("d")
        assert sent(running)[-1] == ("cancel", {"command": identity})


@pytest.mark.parametrize(
    ("table", "own", "shown"),
    [
        ("[diagnose]\ntime = 60.0\n", "", "about 24 s (up to 1:00 if undecided); esc"),
        ("[diagnose]\ntime = 60.0\n", "time = 30\n", "about 24 s (up to 30 s if undecided); esc"),
        ("[diagnose]\ntime = 10.0\n", "", "about 24 s; esc"),
    ],
)
async def test_a_test_says_for_how_long_it_may_stay_undecided(
    running: WrittenRun, table: str, own: str, shown: str
) -> None:
    profile = running.run.profile.read_text()
    begin = "[actions.diagnose]\n"
    assert begin in profile
    running.run.profile.write_text(profile.replace(begin, table + begin + own))
    running.event(OperationTimes(stage="new", step=85, seconds={"diagnose": 24.0}))
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("d")
        await pilot.pause()
        assert f"diagnose: training waits, {shown} cancels" in screen_text(app)


async def test_a_second_press_ends_what_waits_and_not_what_another_one_began(
    diagnosing: WrittenRun,
) -> None:
    app = console_of(diagnosing)
    async with app.run_test(size=SIZE) as pilot:
        await open_dialog(pilot, app, "r")
        await pilot.press("y")
        let_time_pass(app)
        app.poll()
        await pilot.press("r")
        (asked, cancel) = CommandTail(diagnosing.run.commands).poll()
        assert (asked["action"], cancel["action"]) == ("recover", "cancel")
        assert cancel["arguments"] == {"command": asked["id"]}


async def test_a_confirmation_says_how_long_training_waits(running: WrittenRun) -> None:
    running.event(OperationTimes(stage="new", step=85, seconds={"recover": 41.2}))
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("r")
        await pilot.pause()
        assert "Training waits, about 41 s; esc ends it" in screen_text(app)


async def test_what_waits_behind_it_is_shown_with_its_sender(diagnosing: WrittenRun) -> None:
    app = console_of(diagnosing)
    async with app.run_test(size=(200, 60)) as pilot:
        await pilot.press("f")
        await pilot.pause()
        assert "freeze: waits until diagnose is done, in about 34 s" in screen_text(app)
        let_time_pass(app)
        app.poll()
        await pilot.pause()
        assert f"waiting: freeze 0 s ({sender_name()})" in screen_text(app)
        # A small screen leaves out the progress before it leaves out the queue.
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "waiting: freeze" in screen_text(app)


async def test_commands_for_a_worker_that_starts_are_kept_and_can_be_dropped(
    make_run: Callable[..., WrittenRun],
) -> None:
    written = make_run()
    written.run.profile.write_text(WITH_CANCEL)
    app = console_of(written)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f")
        await pilot.pause()
        assert "freeze: kept for the first step" in screen_text(app)
        app.options.wall_clock.now = 2e9  # type: ignore[attr-defined]
        let_time_pass(app)
        app.poll()
        await pilot.pause()
        assert "kept for the first step   esc cancel   waiting: freeze" in screen_text(app)
        await pilot.press("c")
        app.options.wall_clock.now += 9.0  # type: ignore[attr-defined]
        app.poll()
        await pilot.resize_terminal(50, 15)
        await pilot.pause()
        lines = [line.strip() for line in screen_text(app).splitlines()]
        at = lines.index("kept for the first step   esc cancel   2 waiting")
        assert lines[at + 1] == "waiting: freeze, checkpoint"
        await pilot.press("escape")
        assert sent(written) == [("freeze", {}), ("checkpoint", {}), ("cancel", {})]


async def test_a_notice_goes_by_itself_and_leaves_q_and_help_in_sight(
    running: WrittenRun,
) -> None:
    app = console_of(running)
    async with app.run_test(size=(80, 24)) as pilot:
        app.show_notice(
            "a notice so long that it would fill the whole line of a small screen, twice over"
        )
        await pilot.pause()
        last = screen_text(app).splitlines()[-1]
        assert last.startswith("a notice so long")
        assert last.rstrip().endswith("q leave  ? help  : more")
        let_time_pass(app, 8.5)
        running.beat(age_s=-8.5)
        app.poll()
        await pilot.pause()
        assert "a notice" not in screen_text(app)


async def test_a_reader_cannot_cancel(diagnosing: WrittenRun) -> None:
    app = console_of(diagnosing, read_only=True)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("escape")
        await pilot.pause()
        assert sent(diagnosing) == []
        assert "esc cancel" not in screen_text(app)


def test_a_cancelled_command_is_over() -> None:
    assert not Command("c-1", "diagnose", status="cancelled").is_pending


async def test_a_test_beside_the_training_keeps_nothing_waiting(running: WrittenRun) -> None:
    running.run.profile.write_text(WITH_CANCEL + "\n[diagnose]\nbeside = true\n")
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("d")
        await pilot.pause()
        assert "diagnose: training goes on meanwhile; esc cancels" in screen_text(app)
        let_time_pass(app)
        app.poll()
        identity = list(app.view.newest.activity.commands)[-1]
        running.command(identity, "diagnose", "accepted", 85, by=sender_name())
        running.event(at_second_arm(identity, beside=True))
        running.beat()
        let_time_pass(app)
        app.poll()
        await pilot.pause()
        text = screen_text(app)
        assert "diagnosing: training goes on   esc cancel   about" in text
        assert "training waits" not in text
        await pilot.press("f")
        await pilot.pause()
        # Nothing is behind it.
        assert "freeze: requested" in screen_text(app)
        running.command("c-9", "pause", "done", 85)
        let_time_pass(app, 60.0)
        running.beat(age_s=-60.0)
        app.poll()
        await pilot.pause()
        text = screen_text(app)
        assert "diagnosing: held while the run is paused   esc cancel   about 34 s left" in text
        await pilot.press("escape")
        assert sent(running)[-1] == ("cancel", {"command": identity})
