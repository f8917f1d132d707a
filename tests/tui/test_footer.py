"""Which keys the footer tells where there is no room for all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sf_tui.tui.dialogs.confirm import ConfirmDialog
from sf_tui.tui.dialogs.lookup import PaletteDialog
from sf_tui.tui.panels.header_footer import Footer
from tui.driving import SIZE, console_of, open_dialog, panel_text, screen_text, sent
from tui.written_run import WrittenRun


def footer_of(written: WrittenRun, width: int) -> str:
    return panel_text(written, Footer, width)


def test_at_80_columns_the_most_important_keys_are_told(running: WrittenRun) -> None:
    footer = footer_of(running, 80)
    assert footer.split() == (
        "f freeze a anchor r recover d diagnose space pause q leave ? help : more".split()  # noqa: SIM905
    )


@pytest.mark.parametrize("width", range(60, 200, 7))
def test_how_to_leave_and_where_help_is_are_always_told(running: WrittenRun, width: int) -> None:
    footer = footer_of(running, width)
    assert "q leave  ? help  : more" in footer
    assert footer.startswith("f freeze  a anchor")


def test_with_more_room_all_keys_are_told(running: WrittenRun) -> None:
    footer = footer_of(running, 150)
    for key in ("b rollback", "c checkpoint", "v careful save", ": more", "z zoom"):
        assert key in footer


def test_only_what_would_change_something_is_told(running: WrittenRun) -> None:
    footer = footer_of(running, 150)
    assert "unfreeze" not in footer
    assert "unanchor" not in footer
    running.freeze(85)
    running.probe(85)
    running.take_anchor(85)
    footer = footer_of(running, 150)
    assert "u unfreeze" in footer
    assert "o unanchor" in footer
    assert "a anchor" not in footer


async def test_the_new_keys_act(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("a", "o", "d")
        assert [action for action, _ in sent(running)] == ["anchor", "unanchor", "diagnose"]


async def test_what_a_host_cannot_do_is_nowhere_offered_and_refused_with_its_reason(
    make_run: Callable[..., WrittenRun],
) -> None:
    hosted = make_run()
    hosted.begin()
    hosted.begin_stage(refused={"rollback": "trl can't go back inside its loop"})
    hosted.steps(1, 85)
    hosted.beat()
    footer = footer_of(hosted, 150)
    assert "rollback" not in footer
    assert "c checkpoint" in footer
    app = console_of(hosted)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("b")
        await pilot.pause()
        assert sent(hosted) == []
        assert "trl can't go back inside its loop" in screen_text(app)
        await open_dialog(pilot, app, "r")
        assert "It can't be undone here: this training can't go back." in screen_text(app)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_recover_says_what_it_does_before_it_is_sent(
    running: WrittenRun, size: tuple[int, int]
) -> None:
    app = console_of(running)
    async with app.run_test(size=size) as pilot:
        await open_dialog(pilot, app, "r")
        assert isinstance(app.screen, ConfirmDialog)
        text = screen_text(app)
        assert "10 old examples, 20 steps at most" in text
        assert "To undo it, rollback (b) goes back to a checkpoint from before it." in text
        assert sent(running) == []
        await pilot.press("y")
        assert sent(running) == [("recover", {})]


async def test_an_edit_is_found_in_the_palette_and_asks(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_dialog(pilot, app, ":")
        assert isinstance(app.screen, PaletteDialog)
        await open_dialog(pilot, app, *"interp", "enter")
        assert isinstance(app.screen, ConfirmDialog)
        lines = app.screen.compose_text(70, 20)
        said = " ".join(text for line in lines for text, _ in line)
        assert "keeps 0.7 of its change" in said
        assert "To undo it, rollback (b)" in said
        await pilot.press("y")
        assert sent(running) == [("interpolate", {})]


async def test_help_tells_the_new_keys(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=(120, 60)) as pilot:
        await open_dialog(pilot, app, "?")
        text = " ".join(screen_text(app).split())
        for row in ("a anchor keep", "o unanchor let", "d diagnose test", "r recover repair"):
            assert row in text
