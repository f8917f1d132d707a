"""All panels of a frame show the same instant of the run, however its log arrives."""

from __future__ import annotations

import re

import pytest

from sf_tui.tui.panels.charts import AccuracyChart, LossChart
from sf_tui.tui.panels.panel import Panel
from support.score_scenes import MakeRun, probe, start_run, start_stage
from tui.driving import console_of, let_time_pass, screen_text
from tui.written_run import WrittenRun


def play(written: WrittenRun, first: int, last: int) -> None:
    """Train with a loss and an old task that tell their step."""
    for step in range(first, last + 1):
        written.step(step, loss=100 + step)
        probe(written, "new", step, {"old": (1000 - step, 1000), "new": (step, 1000)})


def steps_shown(screen: str) -> set[int]:
    """Return the steps that header, header loss, strip, legend, loss title and matrix are of."""
    header, numbers, strip, *rest = screen.splitlines()
    found = {int(re.findall(r"step (\d+)/", header)[0])}
    found |= {int(loss) - 100 for loss in re.findall(r"loss (\d+)", numbers)}
    found |= {1000 - int(right) for right in re.findall(r"old .*?\((\d+) of 1000\)", strip)}
    for line in rest:
        found |= {int(loss) - 100 for loss in re.findall(r"training loss .* loss (\d+)", line)}
        found |= {
            1000 - int(right)
            for right in re.findall(r"^accuracy .*? old .*?\((\d+) of 1000\)", line)
        }
    return found


@pytest.fixture
def long_run(make_run: MakeRun) -> WrittenRun:
    written = make_run()
    start_run(written, steps=900)
    start_stage(written, "new", ("old",), steps=900)
    start = {"old": (1000, 1000), "new": (0, 1000)}
    probe(written, "new", 0, start, start)
    play(written, 1, 40)
    written.beat()
    return written


async def test_panels_agree_after_every_piece_of_the_log(long_run: WrittenRun) -> None:
    app = console_of(long_run)
    async with app.run_test(size=(200, 60)) as pilot:
        await pilot.pause()
        assert steps_shown(screen_text(app)) == {40}
        step = 40
        for piece in (1, 2, 7, 1, 1, 30, 1, 3, 1):
            play(long_run, step + 1, step + piece)
            step += piece
            let_time_pass(app, 0.25)
            app.poll()
            await pilot.pause()
            shown = steps_shown(screen_text(app))
            assert len(shown) == 1, shown
            # A panel that is composed between two frames shows the last one.
            for panel in app.screen.query(Panel):
                panel.repaint()
            await pilot.pause()
            assert steps_shown(screen_text(app)) == shown
            app.show_notice("something")
            await pilot.pause()
            assert len(steps_shown(screen_text(app))) == 1
        let_time_pass(app, 2.0)
        app.poll()
        await pilot.pause()
        assert steps_shown(screen_text(app)) == {step}


async def test_a_resize_between_two_frames_mixes_no_instants(long_run: WrittenRun) -> None:
    app = console_of(long_run)
    async with app.run_test(size=(200, 60)) as pilot:
        await pilot.pause()
        play(long_run, 41, 60)
        app.poll()
        await pilot.resize_terminal(180, 50)
        await pilot.pause()
        assert len(steps_shown(screen_text(app))) == 1
        assert app.query_one(AccuracyChart).size.width == app.query_one(LossChart).size.width
