"""What each size of the terminal shows: aligned charts, stages, times, the card, and the zoom."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sf_tui.tui.chart import (
    GUTTER,
    RIGHT_GUTTER,
    column_of,
    even_rows,
    plot_width,
    share_ticks,
    step_at,
)
from sf_tui.tui.dialogs.replay import LeaveReplayDialog
from sf_tui.tui.navigation import ZoomScreen
from sf_tui.tui.panels.charts import AccuracyChart, LossChart
from sf_tui.tui.panels.lists import Events, WorkerLog
from sf_tui.tui.panels.tables import Drift
from sf_tui.vocabulary.events import RunFinished
from support.console_scenes import MakeRun, begun, in_danger, plain_terminal
from tui.driving import console_of, let_time_pass, open_dialog, screen_text, sent
from tui.written_run import WrittenRun

SIZES = [(80, 24), (120, 40), (200, 60)]


@pytest.fixture
def five_stages(make_run: MakeRun) -> WrittenRun:
    """Return a run in the fourth of five stages, whose names are too long for any axis."""
    written = make_run()
    stages = tuple(f"people-of-a-stage-with-a-long-name-{letter}" for letter in "abcde")
    written.begin(stages=stages, steps=200)
    known: tuple[str, ...] = ("old",)
    for stage, until in zip(stages[:4], (200, 200, 200, 60), strict=True):
        written.begin_stage(stage, steps=200, known=known)
        written.steps(1, until, stage)
        known = (*known, stage)
    written.beat()
    return written


def rows_of(text: str) -> list[str]:
    return text.split("\n")


@pytest.mark.parametrize("size", SIZES)
async def test_stages_have_keys_times_and_a_legend_at_every_size(
    five_stages: WrittenRun, size: tuple[int, int]
) -> None:
    app = console_of(five_stages)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        text = screen_text(app)
        axis = next(row for row in rows_of(text) if row.split()[:2] == ["s1", "s2"])
        # What is ahead has no key yet.
        assert axis.split()[:5] == ["s1", "s2", "s3", "s4", "200"]
        assert "s1 ▲ people-of" in text
        assert "s2 ■ people-of" in text
        assert "step 60/200" in text
        assert "ETA stage 3:" in text
        assert ", run 7:" in text
        if size[0] >= 120:
            headings = [row.split()[-2:] for row in rows_of(text)]
            assert ["now", "worst"] in headings, "in the order of time, the worst value last"
            charts = [app.query_one(kind) for kind in (AccuracyChart, LossChart)]
            foots = [
                "".join(part for part, _ in chart.compose_lines(chart.size.width, 12)[-1])
                for chart in charts
            ]
            assert foots[0] == foots[1], "a step has one column in both charts"


def test_ticks_are_evenly_spaced_in_a_plot_of_any_height() -> None:
    for height in range(5, 60):
        shares = [share for share, _ in share_ticks(height)]
        used = even_rows(shares, height)
        rows = [round(share * (used - 1)) for share in shares]
        assert len({after - before for before, after in pairwise(rows)}) == 1
        assert height - used <= 2
    columns = plot_width(120)
    assert columns == 120 - GUTTER - RIGHT_GUTTER
    for column in range(columns):
        assert column_of(step_at(column, 0, 5000, columns), 0, 5000, columns) == column


async def test_the_loss_is_shown_from_24_rows_on(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=(80, 24)) as pilot:
        for height, line, chart in ((20, False, False), (24, True, False), (30, False, True)):
            await pilot.resize_terminal(80, height)
            await pilot.pause()
            text = screen_text(app)
            assert any(row.startswith("loss  ") for row in rows_of(text)) is line, height
            assert ("training loss" in text) is chart, height
            assert "ETA 4:59" in text
            assert "step 85/300" in text


async def test_the_card_names_the_task_and_the_next_key(make_run: MakeRun) -> None:
    written = begun(make_run, 85)
    app = console_of(written)
    async with app.run_test(size=(50, 15)) as pilot:
        await pilot.pause()
        text = screen_text(app)
        for wanted in ("new 85/300", "ETA 4:59", "● old 0.41", "a anchor", "dropped by 25"):
            assert wanted in text
        await open_dialog(pilot, app, "enter")
        assert "new, step 85" in screen_text(app) or "new, step 15" in screen_text(app)
        await pilot.press("escape")
        written.event(RunFinished(status="completed", exit_code=0))
        let_time_pass(app)
        app.poll()
        await pilot.pause()
        assert "sf diagnose" in screen_text(app)
        assert "at risk" not in screen_text(app)


async def test_without_color_the_danger_window_is_told_on_the_axis(make_run: MakeRun) -> None:
    written, options = plain_terminal(make_run)
    app = console_of(written, **options)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        text = screen_text(app)
        axis = next(row for row in rows_of(text) if row.strip().startswith("+"))
        assert axis.count("=") > 20
        assert "danger window" in text


async def test_tab_moves_the_zoom_and_numbers_choose_panels(running: WrittenRun) -> None:
    running.run.worker_log.write_text("".join(f"line {number}\n" for number in range(100)))
    app = console_of(running)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("z", "tab")
        assert isinstance(app.screen, ZoomScreen)
        assert app.screen.panel is LossChart
        assert "▸ training loss" in screen_text(app)
        await pilot.press("tab")
        await pilot.pause()
        drift = app.screen.query_one(Drift)
        steps = drift.compose_lines(120, 30)[-1]
        assert steps[-1][0] == "steps 0 to 85 of new"
        await pilot.press("escape")
        assert not isinstance(app.screen, ZoomScreen)
        assert isinstance(app.focused, Drift), "what was zoomed stays chosen"
        await pilot.press("7", "pageup")
        log = app.screen.query_one(WorkerLog)
        assert app.focused is log or app.view.log_end is not None
        assert app.view.log_end is not None
        before = app.view.log_end
        await pilot.press("down")
        assert app.view.log_end == before + 1
        await pilot.press("escape")
        assert app.view.log_end is None
        await pilot.press("6", "home")
        assert isinstance(app.focused, Events)
        assert app.view.events.chosen is app.view.live.activity.rows[0]
        await pilot.press("end")
        assert app.view.events.chosen is None


async def test_the_filter_leaves_the_matching_lines_of_the_worker_log(running: WrittenRun) -> None:
    lines = [f"{'Loading' if number % 10 == 3 else 'step'} {number}" for number in range(100)]
    running.run.worker_log.write_text("\n".join(lines) + "\n")
    app = console_of(running)
    async with app.run_test(size=(120, 40)) as pilot:
        await open_dialog(pilot, app, "/")
        await pilot.press(*"loading")
        assert "10 of 100 lines of the worker log" in screen_text(app)
        await pilot.press("enter", "7", "z")
        await pilot.pause()
        text = screen_text(app)
        assert "filter: loading" in text
        rows = [row.strip() for row in text.splitlines()]
        assert [row for row in rows if row in lines] == lines[3::10]
        # It moves by the lines that are left, and keeps its place without the filter.
        app.view.log_end = 54
        panel = app.screen.query_one(WorkerLog)
        assert [line[0][0].strip() for line in panel.compose_lines(80, 2)] == [lines[43], lines[53]]
        app.view.event_filter = "nowhere"
        assert panel.compose_lines(80, 2)[0][0][0].strip() == "none contains 'nowhere'"
        app.view.event_filter = ""
        assert panel.compose_lines(80, 2)[-1][0][0].strip() == lines[53]


async def test_the_wheel_moves_through_the_lines_that_the_filter_leaves(
    running: WrittenRun,
) -> None:
    running.run.worker_log.write_text("".join(f"even {n}\nodd {n}\n" for n in range(50)))
    app = console_of(running)
    async with app.run_test(size=(120, 40)) as pilot:
        app.view.event_filter = "even"
        await pilot.press("7", "up")
        assert app.view.log_end == 97
        await pilot.press("pageup", "up")
        assert app.view.log_end is not None
        assert app.view.log_lines[app.view.log_end - 1].startswith("even")
        await pilot.press("end")
        assert app.view.log_end is None


async def test_replay_asks_before_it_acts_on_the_run_as_it_is_now(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("[", "[")
        await open_dialog(pilot, app, "f")
        assert isinstance(app.screen, LeaveReplayDialog)
        lines = app.screen.compose_text(70, 20)
        said = " ".join("".join(text for text, _ in line) for line in lines)
        assert "The screen shows the run at new, step 80." in said
        assert "freeze acts on the run at new, step 85." in said
        await pilot.press("n")
        assert app.view.cursor is not None
        assert sent(running) == []
        let_time_pass(app)
        await open_dialog(pilot, app, "f")
        await pilot.press("y")
        await pilot.pause()
        assert app.view.cursor is None
    assert [action for action, _ in sent(running)] == ["freeze"]


async def test_the_range_is_named_and_a_key_without_effect_says_so(make_run: MakeRun) -> None:
    written, _ = in_danger(make_run)
    written.steps(86, 300)
    app = console_of(written)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press(">")
        assert "the charts span the whole run" in app.view.notice
        # Of a single stage, run and stage are the same.
        await pilot.press("<")
        assert app.view.range in {"run", "window"}
        assert ("danger window of new" in screen_text(app)) is (app.view.range == "window")
