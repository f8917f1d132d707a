"""A console that is resized shows what one opened at that size shows."""

from __future__ import annotations

import pytest

from support.console_scenes import MakeRun, diagnosed
from support.pseudo_terminal import Terminal
from support.score_scenes import failed, five_tasks
from tui.driving import console_of, own_text
from tui.written_run import WrittenRun

SIZES = ((80, 24), (200, 60), (50, 15), (120, 40), (100, 34))


async def frame_at(written: WrittenRun, size: tuple[int, int]) -> str:
    app = console_of(written)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        return own_text(app)


@pytest.mark.parametrize(
    "scene",
    ["five", *(pytest.param(name, marks=pytest.mark.slow) for name in ("diagnosed", "failed"))],
)
async def test_a_resized_console_equals_one_opened_at_that_size(
    make_run: MakeRun, scene: str
) -> None:
    makers = {"diagnosed": lambda make: diagnosed(make)[0], "five": five_tasks, "failed": failed}
    written = makers[scene](make_run)
    app = console_of(written)
    async with app.run_test(size=(50, 15)) as pilot:
        for size in SIZES:
            await pilot.resize_terminal(*size)
            await pilot.pause()
            await pilot.pause()
            assert own_text(app) == await frame_at(written, size), size


def test_a_real_terminal_that_grows_shows_every_layer_and_arm(make_run: MakeRun) -> None:
    written, _ = diagnosed(make_run)
    # Its worker is dead at any date of the machine, so the screens stand still.
    written.beat(age_s=written.now_s)
    # A shell may export the size that its window once had.
    exported = {"COLUMNS": "80", "LINES": "24"}
    grown = Terminal(["-m", "sf_tui.tui", str(written.run.path)], exported, (80, 24))
    fresh = Terminal(["-m", "sf_tui.tui", str(written.run.path)], {}, (200, 60))
    try:
        grown.read_until("worker dead")
        grown.read_until_quiet(0.5)
        before = grown.screen()
        grown.resize((50, 15))
        grown.resize((80, 24))
        grown.read_until("worker dead")
        grown.read_until_quiet(1.0)
        assert grown.screen() == before, "what a moment's other size cut off is back"
        grown.resize((50, 15))
        grown.read_until("worker dead")
        grown.read_until_quiet(0.5)
        grown.resize((200, 60))
        for terminal in (grown, fresh):
            terminal.read_until("recovered control steps")
            terminal.read_until_quiet(1.0)
        assert "block-3" in grown.screen()
        assert grown.screen() == fresh.screen()
    finally:
        grown.end()
        fresh.end()
