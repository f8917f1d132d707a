from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot

from sf_tui.run.commands import CommandTail
from sf_tui.tui.actions import CONSOLE_KEYS
from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.dialogs.confirm import ConfirmDialog, RollbackDialog, StopDialog
from sf_tui.tui.dialogs.help import HelpDialog
from sf_tui.tui.dialogs.lookup import PaletteDialog
from sf_tui.tui.navigation import ZoomScreen
from sf_tui.tui.panels.charts import AccuracyChart
from sf_tui.tui.panels.lists import Events
from sf_tui.vocabulary.events import RunFinished, StageFinished
from support import PATIENCE_S
from support.console_scenes import three_stages
from tui.driving import (
    SIZE,
    console_of,
    let_time_pass,
    open_dialog,
    own_text,
    screen_text,
    sent,
)
from tui.written_run import WrittenRun

MakeRun = Callable[..., WrittenRun]


async def test_freeze_acts_at_once_and_its_state_is_followed(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("f")
        assert sent(running) == [("freeze", {})]
        app.poll()
        await pilot.pause()
        assert "freeze: requested" in screen_text(app)
        identity = CommandTail(running.run.commands).poll()[0]["id"]
        running.command(identity, "freeze", "accepted", 86)
        running.command(identity, "freeze", "done", 86)
        app.poll()
        await pilot.pause()
        assert screen_text(app).count("freeze: requested → accepted @86 → done") == 2


async def test_a_held_key_sends_one_command(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press(*["space"] * 8)
        assert sent(running) == [("pause", {})]
        let_time_pass(app)
        app.poll()
        await pilot.press("space")
        assert [action for action, _ in sent(running)] == ["pause", "resume"]


async def test_an_action_marked_confirm_asks_and_can_be_left(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await open_dialog(pilot, app, "v")
        assert isinstance(app.screen, ConfirmDialog)
        await pilot.press("n")
        assert sent(running) == []
        let_time_pass(app)
        await open_dialog(pilot, app, "v")
        await pilot.press("f")
        assert sent(running) == [], "no key reaches the console below a dialog"
        await pilot.press("y")
        assert sent(running) == [("careful", {})]


async def test_a_key_that_was_still_on_its_way_confirms_nothing(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("v", "y")
        assert isinstance(app.screen, ConfirmDialog)
        assert sent(running) == []


async def test_rollback_names_checkpoint_and_loss_and_wants_a_typed_yes(
    running: WrittenRun,
) -> None:
    running.steps(86, 130)
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await open_dialog(pilot, app, "b")
        assert isinstance(app.screen, RollbackDialog)
        text = screen_text(app)
        assert "rollback to new/step-000100?" in text
        assert "discards 30 steps" in text
        await pilot.press("y", "enter")
        await pilot.press("e", "enter")
        assert sent(running) == []
        await pilot.press("s", "enter")
        assert sent(running) == [("rollback", {"to": "step-000100"})]


async def test_the_target_of_a_rollback_is_fixed_when_the_dialog_opens(
    running: WrittenRun,
) -> None:
    running.steps(86, 190)
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await open_dialog(pilot, app, "b")
        await pilot.press("y", "e")
        running.steps(191, 230)
        let_time_pass(app)
        app.poll()
        await pilot.press("s", "enter")
        assert sent(running) == [("rollback", {"to": "step-000100"})], "not the new step-000200"


async def test_another_checkpoint_can_be_chosen_and_voids_what_was_typed(
    running: WrittenRun,
) -> None:
    running.steps(86, 130)
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await open_dialog(pilot, app, "b")
        await pilot.press("y", "e", "s", "down", "enter")
        assert sent(running) == []
        await pilot.press("y", "e", "s", "enter")
        assert sent(running) == [("rollback", {"to": "step-000000"})]


async def test_stopping_is_only_in_the_palette_and_wants_a_typed_yes(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("k")
        assert len(app.screen_stack) == 1, "the profile's key for it is not bound"
        await open_dialog(pilot, app, ":")
        assert isinstance(app.screen, PaletteDialog)
        await open_dialog(pilot, app, *"stop", "enter")
        assert isinstance(app.screen, StopDialog)
        await pilot.press(*"no", "enter")
        assert sent(running) == []
        await pilot.press("backspace", "backspace", *"yes", "enter")
        assert sent(running) == [("stop", {})]


async def test_the_palette_offers_every_action_and_every_key(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await open_dialog(pilot, app, ":")
        palette = app.screen
        assert isinstance(palette, PaletteDialog)
        labels = {choice.label for choice in palette.matching}
        assert {action.label for action in app.sender.actions.actions} <= labels
        assert {entry.label for entry in CONSOLE_KEYS if entry.command != "palette"} <= labels
        await pilot.press(*"freeze", "enter")
        assert sent(running) == [("freeze", {})]


# What is pressed first, where a key has nothing to do otherwise.
PRESSED_BEFORE = {
    "forward": ("[", "["),
    "next-mark": ("p", "p"),
    "live": ("[",),
    "widen": ("<",),
    "list-down": ("up", "up"),
    "list-page-down": ("pageup", "pageup"),
    "list-end": ("up",),
}


def visible_state(app: ConsoleApp) -> tuple[object, ...]:
    """Return all that a key of the console can change."""
    if app.return_value is not None:
        return (app.return_value,)
    kept = sorted((app.view.run.path / "console").glob("*"))
    return (own_text(app), type(app.screen), app.focused, app.theme, app.clipboard, kept)


async def changes_state(pilot: Pilot[int], app: ConsoleApp, key: str) -> bool:
    """Press a key and return whether the visible state changes.

    Textual's pilot takes a process without processor time for idle: on a busy machine `press` may
    return before the key has passed from the focused panel up to the application.
    """
    before = visible_state(app)
    await pilot.press(key)
    deadline = time.monotonic() + PATIENCE_S
    while visible_state(app) == before and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return visible_state(app) != before


async def settled_state(pilot: Pilot[int], app: ConsoleApp) -> tuple[object, ...]:
    """Return the visible state once nothing of an earlier key is still being drawn."""
    state, before = visible_state(app), None
    while state != before:
        await pilot.pause(0.02)
        state, before = visible_state(app), state
    return state


async def test_every_console_key_changes_what_is_seen_or_kept(make_run: MakeRun) -> None:
    # Of several stages, so that charts of the run and of the stage differ.
    written, _ = three_stages(make_run)
    app = console_of(written)
    async with app.run_test(size=SIZE) as pilot:
        before = await settled_state(pilot, app)
        await pilot.press("f12")
        assert visible_state(app) == before, "a key without a meaning changed something"
        for entry in sorted(CONSOLE_KEYS, key=lambda entry: entry.command == "leave"):
            for key in entry.keys:
                for first in PRESSED_BEFORE.get(entry.command, ()):
                    assert await changes_state(pilot, app, first), f"{first} does nothing"
                await settled_state(pilot, app)
                assert await changes_state(pilot, app, key), f"{key} does nothing"
                while len(app.screen_stack) > 1:
                    await app.pop_screen()
                app.view.cursor = app.view.events.chosen = None
                app.view.range = "run"
                app.view.notice = ""
                app.update_panels()
                await pilot.pause()
    assert app.return_value == 0


async def test_help_lists_every_key_of_profile_and_console(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=(120, 60)) as pilot:
        await open_dialog(pilot, app, "?")
        assert isinstance(app.screen, HelpDialog)
        lines = app.screen.compose_text(92, 1000)
        page = ["".join(part for part, _ in line) for line in lines]
        text = " ".join(" ".join(page).split())
        for entry in CONSOLE_KEYS:
            assert entry.help in text
        assert page.index("Signs") < page.index("The console") < page.index("Words")
        assert page[0] == "This panel: accuracy"
        assert "careful save" in text
        assert "layers 2, embeddings yes" in text


async def test_help_scrolls_where_it_does_not_fit(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_dialog(pilot, app, "?")
        assert "more lines" in screen_text(app)
        await pilot.press(*["pagedown"] * 8)
        assert "inconclusive" in screen_text(app)
        assert "more lines" not in screen_text(app)
        await pilot.press("escape")
        assert len(app.screen_stack) == 1


async def test_read_only_sends_nothing_and_says_so(running: WrittenRun) -> None:
    app = console_of(running, read_only=True)
    async with app.run_test(size=SIZE) as pilot:
        for key in ("f", "u", "space", "c", "v", "b"):
            await pilot.press(key)
            assert "read-only" in app.view.notice
            assert len(app.screen_stack) == 1
        assert "read-only: nothing is sent" in screen_text(app)
    assert sent(running) == []


async def test_a_dead_worker_is_told_with_how_to_go_on(make_run: MakeRun) -> None:
    written = make_run()
    written.begin()
    written.begin_stage()
    written.steps(1, 110)
    written.beat(age_s=300)
    app = console_of(written)
    async with app.run_test(size=SIZE) as pilot:
        text = screen_text(app)
        assert "The worker is dead" in text
        assert f"sf resume {written.run.id} (from new/step-000100)" in text
        await pilot.press("f")
        assert "the worker of the run is dead" in app.view.notice
    assert sent(written) == []


async def test_a_silent_worker_is_told_before_it_is_taken_for_dead(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        assert "running" in screen_text(app)
        for seconds, state in ((20, "The worker is silent"), (60, "The worker is dead")):
            let_time_pass(app, seconds)
            app.poll()
            await pilot.pause()
            assert state in screen_text(app)


async def test_replay_shows_the_values_at_the_cursor(running: WrittenRun) -> None:
    running.steps(86, 300)
    running.event(StageFinished(stage="new", task="new", strategy="seq", steps=300))
    running.event(RunFinished(status="completed", exit_code=0, metrics={}, reason=""))
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("[")
        assert app.view.step == 150
        await pilot.press("[")
        assert app.view.step == 145
        assert "replay new@145" in screen_text(app)
        assert "DANGER WINDOW 145/150" in screen_text(app)
        await pilot.press("p")
        assert app.view.step == 15, "the alert"
        await pilot.press("p", "n", "n")
        assert app.view.step == 150, "the danger window's end"
        await pilot.press("escape")
        assert app.view.cursor is None
        await pilot.press("]")
        assert app.view.cursor is None


async def test_a_panel_can_have_the_whole_screen_at_any_size(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("z")
        assert isinstance(app.screen, ZoomScreen)
        chart = app.screen.query_one(AccuracyChart)
        assert chart.size.width == 120
        await pilot.resize_terminal(50, 12)
        await pilot.press("z")
        assert not isinstance(app.screen, ZoomScreen)
        await pilot.resize_terminal(*SIZE)
        app.screen.query_one(Events).focus()
        await pilot.press("z")
        assert isinstance(app.screen, ZoomScreen)
        assert app.screen.query_one(Events).size.width == 120
        await pilot.press("escape")
        assert not isinstance(app.screen, ZoomScreen)


@pytest.mark.parametrize(
    ("size", "layout"),
    [
        ((1, 1), "card"),
        ((59, 40), "card"),
        ((80, 19), "card"),
        ((60, 20), "compact"),
        ((80, 24), "compact"),
        ((120, 40), "standard"),
        ((200, 60), "wide"),
    ],
)
async def test_every_size_has_its_layout(
    running: WrittenRun, size: tuple[int, int], layout: str
) -> None:
    app = console_of(running)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.resize_terminal(*size)
        await pilot.pause()
        assert app.screen.has_class(f"-{layout}")
        await pilot.press("l", "t", "[")
        assert app.is_running


async def test_events_can_be_filtered(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await open_dialog(pilot, app, "/")
        await pilot.press(*"danger", "enter")
        assert "filter: danger" in screen_text(app)
        assert "checkpoint new/step-000000" not in screen_text(app)
        await open_dialog(pilot, app, "/")
        await pilot.press("ctrl+u", *"nothing like it", "enter")
        assert "none contains 'nothing like it'" in screen_text(app)


async def test_a_screenshot_is_saved_beside_the_run_and_said(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("s")
        saved = list((running.run.path / "console").glob("*.svg"))
        assert len(saved) == 1
        assert app.view.notice == f"saved {saved[0]}"
        assert saved[0].read_text().startswith("<svg")


async def test_values_are_offered_to_the_clipboard_and_written(
    running: WrittenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("m")
        saved = list((running.run.path / "console").glob("*.md"))
        assert saved[0].read_text() == app.clipboard
        offered = "and offered to the terminal's clipboard"
        assert app.view.notice == f"written to {saved[0]}, {offered}"
        assert "| old (exact_match) | 0.99 ± 0.06, 64 examples |" in app.clipboard
        assert "step 85 of 300" in app.clipboard


async def test_nothing_is_composed_while_the_terminal_takes_nothing(running: WrittenRun) -> None:
    ready = [True]
    app = ConsoleApp(running.run, running.options(), terminal_is_ready=lambda: ready[0])
    async with app.run_test(size=SIZE) as pilot:
        ready[0] = False
        running.step(86)
        let_time_pass(app)
        app.poll()
        await pilot.pause()
        assert "85/300" in screen_text(app)
        ready[0] = True
        app.poll()
        await pilot.pause()
        assert "86/300" in screen_text(app)


async def test_a_still_run_composes_nothing(
    running: WrittenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        composed: list[object] = []
        monkeypatch.setattr(app, "update_panels", lambda **_: composed.append(1))
        for _ in range(20):
            let_time_pass(app, 0.25)
            app.poll()
        assert not composed


async def test_a_run_that_never_began_ends_the_console(make_run: MakeRun) -> None:
    written = make_run()
    ended = [False]
    app = ConsoleApp(written.run, written.options(), worker_ended=lambda: ended[0])
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        assert "starting the worker" in screen_text(app)
        ended[0] = True
        app.poll()
        await pilot.pause()
    assert app.return_value == -1


async def test_leaving_ends_with_zero_and_ctrl_c_with_130(running: WrittenRun) -> None:
    for key, code in (("q", 0), ("ctrl+c", 130)):
        app = console_of(running)
        async with app.run_test(size=SIZE) as pilot:
            await pilot.press(key)
            await pilot.pause()
        assert app.return_value == code
    assert sent(running) == []


async def test_keepsakes_go_elsewhere_when_the_run_can_not_be_written(
    running: WrittenRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (running.run.path / "console").write_text("a file is in the way")
    monkeypatch.chdir(tmp_path)
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("s")
        assert list(tmp_path.glob("console-*.svg"))


async def test_a_run_directory_that_vanishes_does_not_end_the_console(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        running.run.path.rename(running.run.path.with_name("elsewhere"))
        let_time_pass(app)
        app.poll()
        await pilot.press("f")
        await pilot.pause()
        assert "worker dead" in screen_text(app)


@pytest.mark.parametrize("key", ["?", "R"])
async def test_a_second_escape_before_a_screen_is_gone_does_nothing(
    running: WrittenRun, key: str
) -> None:
    app = console_of(running)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_dialog(pilot, app, key)
        opened = app.screen
        for _ in range(2):
            opened.post_message(events.Key("escape", None))
        await pilot.pause()
        assert len(app.screen_stack) == 1
        assert app.is_running
