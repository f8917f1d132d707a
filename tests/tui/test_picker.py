from __future__ import annotations

from collections.abc import Callable

from sf_tui.run.directory import list_runs
from sf_tui.tui.feed import RunListReader, summarize_run
from sf_tui.tui.picker import RunPicker
from sf_tui.vocabulary.events import RunFinished
from tui.written_run import WrittenRun

MakeRun = Callable[..., WrittenRun]


def several(make_run: MakeRun) -> list[WrittenRun]:
    dead = make_run("run-dead")
    dead.begin()
    dead.begin_stage()
    dead.steps(1, 40)
    dead.beat(age_s=600)
    finished = make_run("run-finished")
    finished.begin()
    finished.begin_stage()
    finished.steps(1, 60)
    finished.event(RunFinished(status="completed", exit_code=0, metrics={}, reason=""))
    running = make_run("run-running")
    running.begin()
    running.begin_stage()
    running.steps(1, 20)
    running.beat()
    return [dead, finished, running]


def test_a_summary_says_state_place_and_both_accuracies(make_run: MakeRun) -> None:
    dead, finished, running = several(make_run)
    assert summarize_run(dead.run, dead.now_s).state == "dead"
    summary = summarize_run(finished.run, finished.now_s)
    assert (summary.state, summary.stage, summary.step) == ("completed", "new", 60)
    assert summary.old is not None
    assert round(summary.old.value, 2) == round(finished.old, 2)
    assert summary.old.examples == 64
    assert summary.new is not None
    assert round(summary.new.value, 2) == round(finished.new, 2)
    assert summarize_run(running.run, running.now_s).state == "running"
    assert summarize_run(running.run, running.now_s + 600).state == "dead"


def test_a_run_of_which_nothing_is_known_has_a_summary_too(make_run: MakeRun) -> None:
    summary = summarize_run(make_run().run, 0.0)
    assert (summary.state, summary.old, summary.last_event_s) == ("starting", None, None)


def test_a_long_list_is_read_a_run_at_a_time(make_run: MakeRun) -> None:
    runs = several(make_run)
    reader = RunListReader()
    for count in (1, 2, 3, 3):
        assert len(reader.read_some(runs[0].run, runs[0].now_s)) == count


async def test_a_run_is_chosen_by_arrows_and_enter(make_run: MakeRun) -> None:
    runs = several(make_run)
    newest_first = list_runs()
    app = RunPicker(runs[2].options())
    async with app.run_test(size=(100, 20)) as pilot:
        await pilot.pause()
        await pilot.press("down", "down", "down", "up", "enter")
    assert app.return_value is not None
    assert app.return_value.path == newest_first[1].path


async def test_leaving_the_list_chooses_none(make_run: MakeRun) -> None:
    runs = several(make_run)
    app = RunPicker(runs[2].options(no_color=True, ascii_only=True))
    async with app.run_test(size=(40, 6)) as pilot:
        await pilot.press("q")
    assert app.return_value is None


def test_a_run_that_is_diagnosed_after_its_end_is_listed_as_ended(make_run: MakeRun) -> None:
    _, finished, _ = several(make_run)
    finished.beat(age_s=600)
    finished.diagnose(60)
    assert summarize_run(finished.run, finished.now_s).state == "completed"
