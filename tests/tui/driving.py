"""A console under test: opened on a written run, driven by keys, read as text."""

from __future__ import annotations

import re
from typing import Any

from textual.pilot import Pilot

from sf_tui.run.commands import CommandTail
from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.dialogs.dialog import DEAF_FOR_S
from sf_tui.tui.lines import fit
from sf_tui.tui.panels.panel import Panel
from tui.written_run import FakeClock, WrittenRun

SIZE = (120, 40)


def console_of(written: WrittenRun, **options: Any) -> ConsoleApp:
    return ConsoleApp(written.run, written.options(**options))


def panel_text(written: WrittenRun, panel: type[Panel], width: int) -> str:
    """Return a panel's first line as it stands at a width, without starting the application."""
    app = console_of(written)
    app.check_worker()
    line, *_ = panel(app.view).compose_lines(width, 2)
    return "".join(text for text, _ in fit(line, width, app.view.glyphs.ellipsis)).rstrip()


def screen_text(app: ConsoleApp) -> str:
    """Return what stands on the screen."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in strips)


def own_text(app: ConsoleApp) -> str:
    """Return what stands on the screen, but for the disk's room: other programs change that."""
    return re.sub(r"[\d.,]+ [kMGT]?B free", "free", screen_text(app))


def sent(written: WrittenRun) -> list[tuple[str, dict[str, Any]]]:
    """Return the commands in the run's command log."""
    return [
        (line["action"], line["arguments"]) for line in CommandTail(written.run.commands).poll()
    ]


def let_time_pass(app: ConsoleApp, seconds: float = 5.0) -> None:
    for clock in (app.options.steady_clock, app.options.wall_clock):
        assert isinstance(clock, FakeClock)
        clock.now += seconds


async def open_dialog(pilot: Pilot[int], app: ConsoleApp, *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()
    app.options.steady_clock.now += 2 * DEAF_FOR_S  # type: ignore[attr-defined]
