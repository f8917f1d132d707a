"""The diagnosis as the console shows it: whole, in one line, and after the run's end."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

import pytest

from sf_tui.run.liveness import RunLock
from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.navigation import ZoomScreen
from sf_tui.tui.panels.verdict import Verdict, lines_wanted
from sf_tui.vocabulary.declared import ArmRecord
from sf_tui.vocabulary.events import DiagnosisMade, RunFinished, StageFinished
from tui.driving import console_of, let_time_pass, screen_text
from tui.written_run import WrittenRun


async def shown(written: WrittenRun, size: tuple[int, int]) -> str:
    app = console_of(written)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        return screen_text(app)


async def test_a_wide_screen_shows_every_arm_and_which_one_decided(running: WrittenRun) -> None:
    running.old = 0.41
    running.diagnose(85)
    text = await shown(running, (200, 60))
    for words in (
        "new@85  spurious",
        "now 0.41 ± 0.04 of 0.99 at stage start",
        "recovered 0.95 (0.93 to 0.97)",
        "alignment lost 0.54  knowledge lost 0.04",
        "spurious share 0.92 (0.88 to 0.96)",
        "▸ neighbors        0.95    0.02    40  21 s",
        "  examples         0.56    0.02    20   9 s",
        "  unrelated        0.61    0.09!   30  12 s",
        "  edit        skipped: no weights of the stage's start",
        "590 held-out, 10 safe examples, 43 s, 720 k tokens",
        "The old task was at 0.995 at the start and is at 0.410",
        "start: the knowledge is there.",
    ):
        assert words in text


async def test_an_arm_that_decides_without_the_best_score_is_explained(running: WrittenRun) -> None:
    arms = {
        "examples": ArmRecord(recovered=0.90, control=0.30, allowed=True, steps=20),
        "neighbors": ArmRecord(recovered=0.92, control=0.05, allowed=True, steps=40),
        "unrelated": ArmRecord(recovered=0.97, control=0.60, allowed=False, steps=30),
    }
    running.diagnose(85, arms=arms, arm="examples", recovered=0.90)
    assert "▸ decides: chosen on other held-out rows" in await shown(running, (200, 60))
    # One whose control rose does not count, so that nothing is to be explained.
    running.diagnose(85, arms=arms, arm="neighbors", recovered=0.92)
    assert "chosen on other" not in await shown(running, (200, 60))


async def test_a_smaller_screen_shows_the_arm_that_decided(running: WrittenRun) -> None:
    running.diagnose(85)
    text = await shown(running, (120, 40))
    assert "by neighbors, control 0.02, 40 steps" in text
    assert "590 held-out, 10 safe examples, 43 s" in text
    assert "unrelated" not in text


async def test_the_smallest_screen_has_a_line_for_it_and_only_then(running: WrittenRun) -> None:
    assert "verdict" not in await shown(running, (80, 24))
    running.old = 0.41
    running.diagnose(85)
    lines = (await shown(running, (80, 24))).splitlines()
    assert "verdict spurious  0.41 → 0.95 of 0.99  share 0.92 (0.88 to 0.96)  590 held-out" in (
        line.strip() for line in lines
    )


async def test_zoomed_the_panel_tells_rates_and_why_an_arm_does_not_count(
    running: WrittenRun,
) -> None:
    running.diagnose(85)
    app = console_of(running)
    async with app.run_test(size=(120, 40)) as pilot:
        app.screen.query_one(Verdict).focus()
        await pilot.press("z")
        assert isinstance(app.screen, ZoomScreen)
        text = screen_text(app)
        assert "rate 4.0e-4, 240 k tokens" in text
        assert "the knowledge is there." in text
        assert "its control rose above 0.04: does not count" in text


async def test_a_verdict_that_arrives_opens_its_panel(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "diagnosis ─" not in screen_text(app)
        running.diagnose(85)
        let_time_pass(app)
        app.poll()
        await pilot.pause()
        assert "diagnosis ─" in screen_text(app)


async def test_a_verdict_on_other_weights_is_told_as_past(running: WrittenRun) -> None:
    running.diagnose(85)
    running.command("c-4", "recover", "done", 85)
    assert "new@85  was spurious" in await shown(running, (120, 40))
    assert "verdict was spurious" in await shown(running, (80, 24))


async def test_of_the_verdict_none_the_drop_is_shown_that_decided(running: WrittenRun) -> None:
    running.old = 0.99
    running.diagnose(85, verdict="none", drop_interval=[-0.01, 0.02], interval=None)
    assert "drop 0.01 (-0.01 to 0.02)" in await shown(running, (120, 40))


async def test_a_diagnosis_without_a_known_start_is_shown_as_far_as_it_goes(
    running: WrittenRun,
) -> None:
    unknown: dict[str, Any] = dict.fromkeys(
        ("start", "recovered", "alignment_loss", "knowledge_loss", "spurious_share", "interval")
    )
    running.diagnose(85, verdict="inconclusive", arm=None, arms={}, **unknown)
    for size in ((80, 24), (120, 40), (200, 60)):
        text = await shown(running, size)
        assert "inconclusive" in text
        assert "spurious" not in text.replace("spurious share", "")
        assert "damaged line" not in text


@pytest.fixture
def ended(running: WrittenRun) -> WrittenRun:
    running.steps(86, 300)
    running.event(StageFinished(stage="new", task="new", strategy="seq", steps=300))
    running.event(RunFinished(status="completed", exit_code=0, metrics={}, reason=""))
    running.beat(age_s=500)
    return running


async def test_a_run_that_is_diagnosed_after_its_end_shows_it_and_has_ended(
    ended: WrittenRun,
) -> None:
    ended.diagnose(300, verdict="real")
    for size in ((80, 24), (120, 40)):
        text = await shown(ended, size)
        assert "completed exit 0" in text
        assert "new@300  real" in text or "verdict real" in text
        assert "worker" not in text.splitlines()[2]


async def test_who_holds_an_ended_run_for_a_diagnosis_is_no_worker(ended: WrittenRun) -> None:
    ended.beat(age_s=500, host=socket.gethostname())
    lock = RunLock(ended.run)
    lock.acquire()
    try:
        app = ConsoleApp(ended.run, ended.options())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "completed exit 0" in screen_text(app)
            await pilot.press("d")
            assert f"sf diagnose {ended.run.id}" in app.view.notice
    finally:
        lock.release()


async def test_a_verdict_that_its_interval_does_not_close_says_so(running: WrittenRun) -> None:
    running.diagnose(85, closed=False)
    assert "new@85  spurious, open" in await shown(running, (120, 40))
    assert "verdict spurious, open" in await shown(running, (80, 24))


def test_the_panel_wants_a_line_for_each_arm_and_those_of_the_evidence() -> None:
    made = partial(DiagnosisMade, "spurious", "old", 0.4)
    assert lines_wanted(made(arms={"neighbors": ArmRecord(), "edit": ArmRecord()}), 44) == 10
    assert lines_wanted(made(evidence=["It is so. " * 8, "Yes."]), 44) == 7 + 2 + 1
