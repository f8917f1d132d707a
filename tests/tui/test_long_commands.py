"""Commands that keep the worker for a while: told from the accepted event until the answer."""

from __future__ import annotations

import pytest

from tui.driving import SIZE, console_of, let_time_pass, screen_text
from tui.written_run import WrittenRun


@pytest.mark.parametrize(
    ("action", "doing"),
    [("diagnose", "diagnosing"), ("recover", "recovering"), ("anchor", "anchoring")],
)
async def test_the_console_says_what_the_worker_is_at_and_for_how_long(
    running: WrittenRun, action: str, doing: str
) -> None:
    running.command("c-3", action, "accepted", 85)
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        for seconds in (0, 12, 37):
            let_time_pass(app, seconds - app.options.wall_clock() + running.now_s)
            running.beat(age_s=-seconds)
            app.poll()
            await pilot.pause()
            lines = screen_text(app).splitlines()
            assert lines[0].rstrip().endswith(f"{doing} … {seconds} s")
            assert f"{action}: requested → accepted @85 … {seconds} s" in screen_text(app)
            assert f"{action}…" in lines[-1] or action == "anchor"
        running.waited_s += 40
        running.command("c-3", action, "done", 85, reason="so it went")
        running.beat()
        let_time_pass(app)
        app.poll()
        await pilot.pause()
        text = screen_text(app)
        assert text.splitlines()[0].rstrip().endswith("running")
        assert f"{action}: requested → accepted @85 → done in 41 s (so it went)" in text


async def test_a_failed_command_ends_it_too(running: WrittenRun) -> None:
    running.command("c-3", "diagnose", "accepted", 85)
    running.command("c-3", "diagnose", "failed", 85, reason="no old rows")
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        assert "diagnosing" not in screen_text(app)
        assert "diagnose: requested → accepted @85 → failed @85 (no old rows)" in screen_text(app)


async def test_a_worker_that_dies_at_it_is_told_as_dead(running: WrittenRun) -> None:
    running.command("c-3", "recover", "accepted", 85)
    running.beat(age_s=120)
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        assert "worker dead" in screen_text(app)
        assert "recovering" not in screen_text(app)


async def test_only_what_counts_the_seconds_is_sent_meanwhile(running: WrittenRun) -> None:
    running.command("c-3", "diagnose", "accepted", 85)
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        before = screen_text(app).splitlines()
        let_time_pass(app, 9.0)
        running.beat(age_s=-9.0)
        app.poll()
        await pilot.pause()
        after = screen_text(app).splitlines()
        differing = [y for y, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert differing[0] == 0
        assert len(differing) == 2, "the header's state and the command's row"
