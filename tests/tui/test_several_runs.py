"""Several runs in one console: the picker, visits and the way back, and pinned curves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from sf_tui.run.directory import RunDirectory
from sf_tui.tui.chart import GUTTER
from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.feed import RunFeed
from sf_tui.tui.panels.charts import AccuracyChart
from sf_tui.tui.picker import PickerScreen, RunPicker
from sf_tui.tui.pins import MOST_PINNED, ClippedSeries, PinnedRuns, aligned_stages
from sf_tui.tui.series import MinMaxSeries
from sf_tui.vocabulary.events import RunFinished
from tui.driving import console_of, screen_text, sent
from tui.written_run import WrittenRun

MakeRun = Callable[..., WrittenRun]


def trained(make_run: MakeRun, name: str, steps: int, **more: object) -> WrittenRun:
    written = make_run(name, **more)
    written.begin()
    written.begin_stage()
    written.steps(1, steps)
    return written


@pytest.fixture
def shown(make_run: MakeRun) -> WrittenRun:
    """Return a live run; there are two ended ones beside it."""
    for name, steps in (("first-run", 40), ("second-run", 70)):
        ended = trained(make_run, name, steps)
        ended.event(RunFinished(status="completed", exit_code=0, metrics={}, reason=""))
    live = trained(make_run, "third-run", 85)
    live.beat()
    return live


async def pick(pilot: Pilot[int], app: ConsoleApp, text: str) -> None:
    """Open the picker and point at the only run that has a text."""
    await pilot.press("R")
    await pilot.pause()
    assert isinstance(app.screen, PickerScreen)
    await pilot.press("slash", *text, "enter")


async def test_a_run_is_opened_and_escape_goes_back_to_where_one_was(shown: WrittenRun) -> None:
    app = console_of(shown)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("p", "less_than_sign")
        cursor, before = app.view.cursor, screen_text(app)
        await pick(pilot, app, "second")
        assert "1 of 3 runs" in screen_text(app)
        await pilot.press("enter")
        await pilot.pause()
        text = screen_text(app)
        assert "second-run" in text
        assert "step 70/" in text
        assert "third-run" not in text
        await pick(pilot, app, "first")
        await pilot.press("enter", "escape")
        assert app.view.run.id == "second-run"
        await pilot.press("escape")
        await pilot.pause()
        assert app.view.run.id == "third-run"
        assert app.view.cursor == cursor is not None
        assert screen_text(app).splitlines()[3:20] == before.splitlines()[3:20]
        await pilot.press("escape", "escape")
        assert app.is_running


async def test_actions_go_to_the_run_that_is_shown(shown: WrittenRun, make_run: MakeRun) -> None:
    # As long as the shown one: both have the same clock.
    other = trained(make_run, "fourth-run", 85)
    other.beat()
    app = console_of(shown)
    async with app.run_test(size=(120, 40)) as pilot:
        await pick(pilot, app, "fourth")
        await pilot.press("enter")
        await pilot.pause()
        await pilot.press("f")
        assert [action for action, _ in sent(other)] == ["freeze"]
        assert sent(shown) == []
        await pilot.press("escape", "u")
        assert [action for action, _ in sent(shown)] == ["unfreeze"]
        assert len(sent(other)) == 1


async def test_escape_clears_the_filter_first_and_then_goes_back(shown: WrittenRun) -> None:
    app = console_of(shown)
    async with app.run_test(size=(80, 24)) as pilot:
        await pick(pilot, app, "completed first")
        assert "first-run" in screen_text(app)
        assert "second-run" not in screen_text(app)
        await pilot.press("escape")
        assert "second-run" in screen_text(app)
        await pilot.press("question_mark")
        assert "pin the run" in screen_text(app)
        await pilot.press("x", "escape")
        assert not isinstance(app.screen, PickerScreen)
        assert app.view.run.id == "third-run"


async def test_a_run_in_the_side_list_is_opened_with_enter(shown: WrittenRun) -> None:
    app = console_of(shown)
    async with app.run_test(size=(200, 60)) as pilot:
        app.query_one("#runs").focus()
        await pilot.press("down", "enter")
        await pilot.pause()
        assert app.view.run.id == "second-run"
        await pilot.press("escape")
        assert app.view.run.id == "third-run"


@pytest.mark.parametrize("no_color", [pytest.param(False, marks=pytest.mark.slow), True])
async def test_pinned_runs_lie_over_the_shown_one_with_marks_of_their_own(
    shown: WrittenRun, no_color: bool
) -> None:
    app = console_of(shown, no_color=no_color)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        plain = chart(app)
        await pick(pilot, app, "first")
        await pilot.press("space", "escape", "slash", *"second", "enter", "space", "escape", "q")
        await pilot.pause()
        both = chart(app)
        assert "1" in both and "2" in both  # noqa: PT018
        assert "1 first-run" in screen_text(app)
        assert "2 second-run" in screen_text(app)
        await pilot.press("R", "u", "q")
        await pilot.pause()
        assert chart(app) == plain
        assert "first-run" not in screen_text(app)


async def test_the_task_of_the_pinned_curves_is_chosen(shown: WrittenRun) -> None:
    app = console_of(shown)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("w")
        await pilot.pause()
        assert "no run is pinned" in screen_text(app)
        await pick(pilot, app, "first")
        await pilot.press("space", "escape", "q")
        await pilot.pause()
        old = chart(app)
        assert "old (w) of 1 first-run" in screen_text(app)
        await pilot.press("w")
        await pilot.pause()
        assert "new (w) of 1 first-run" in screen_text(app)
        assert chart(app) != old
        # The choice is the console's: it holds in the next run.
        await pick(pilot, app, "second")
        await pilot.press("enter")
        await pilot.pause()
        assert "new (w) of 1 first-run" in screen_text(app)
        await pilot.press("w")
        await pilot.pause()
        assert "old (w) of 1 first-run" in screen_text(app)


def chart(app: ConsoleApp) -> str:
    """Return the plot of the accuracies, without its axes."""
    panel = app.query_one("#accuracy", AccuracyChart)
    lines = ["".join(text for text, _ in line) for line in panel.compose_lines(70, 16)]
    return "\n".join(line[GUTTER:] for line in lines[:-2])


async def test_a_fifth_pin_is_refused_in_words(shown: WrittenRun, make_run: MakeRun) -> None:
    for name in ("a", "b", "c"):
        trained(make_run, f"more-{name}", 5)
    app = console_of(shown)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("R", "home")
        for _ in range(5):
            await pilot.press("space", "down")
        await pilot.press("up", "space")
        assert "unpin one first" in screen_text(app)
        await pilot.press("down")
        assert "unpin one first" not in screen_text(app)


def test_four_runs_at_most_are_pinned_and_signs_are_reused(make_run: MakeRun) -> None:
    runs = [trained(make_run, f"run-{n}", 5).run for n in range(6)]
    pins = PinnedRuns()
    assert [pins.toggle(run) for run in runs[:MOST_PINNED]] == [""] * MOST_PINNED
    assert "unpin one first" in pins.toggle(runs[4])
    pins.toggle(runs[1])
    pins.toggle(runs[5])
    assert [(pin.sign, pin.run.id) for pin in pins] == [
        ("1", "run-0"),
        ("2", "run-5"),
        ("3", "run-2"),
        ("4", "run-3"),
    ]


def test_a_pinned_run_that_goes_on_is_followed(make_run: MakeRun) -> None:
    written = trained(make_run, "run", 5)
    pins = PinnedRuns()
    pins.toggle(written.run)
    assert not pins.poll()
    written.steps(6, 9)
    assert pins.poll()
    [pin] = pins
    assert pin.live.stage is not None
    assert pin.live.stage.step == 9


def test_stages_of_one_name_are_aligned_by_their_steps(make_run: MakeRun) -> None:
    def staged(name: str, *lengths: int, stages: tuple[str, ...]) -> RunDirectory:
        written = make_run(name)
        written.begin(stages=stages, steps=max(lengths))
        for stage, steps in zip(stages, lengths, strict=True):
            written.begin_stage(stage, steps=steps)
            written.steps(1, steps, stage)
        return written.run

    long = RunFeed(staged("long", 30, 8, stages=("old", "new"))).live
    short = RunFeed(staged("short", 10, 8, stages=("old", "new"))).live
    other = RunFeed(staged("other", 10, 8, stages=("a", "b"))).live
    assert [(at, stage.name, limit) for at, stage, limit in aligned_stages(long, short)] == [
        (0, "old", 10),
        (10, "new", None),
    ]
    assert [(at, stage.name) for at, stage, _ in aligned_stages(short, long)] == [
        (0, "old"),
        (30, "new"),
    ]
    assert [(at, stage.name) for at, stage, _ in aligned_stages(other, long)] == [
        (0, "a"),
        (10, "b"),
    ]


def test_a_clipped_series_has_no_later_points() -> None:
    series = MinMaxSeries()
    for step in range(20):
        series.add(step, float(step))
    assert [bucket.x for bucket in ClippedSeries(series, 7).buckets(5, 100)] == [5, 6, 7]


async def test_the_first_picker_filters_too_and_names_the_age(shown: WrittenRun) -> None:
    app = RunPicker(shown.options())
    async with app.run_test(size=(100, 20)) as pilot:
        await pilot.pause()
        assert "last event" in screen_text(app)  # type: ignore[arg-type]
        assert "pin" not in screen_text(app)  # type: ignore[arg-type]
        await pilot.press("slash", *"first", "enter", "escape")
        assert app.is_running
        await pilot.press("slash", *"first", "enter", "enter")
    assert app.return_value is not None
    assert app.return_value.id == "first-run"
