"""Only differing cells are sent, the terminal ends up right, and `--lite` sends less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.geometry import Region
from textual.pilot import Pilot
from textual.strip import Strip

from sf_tui.run.answers import write_sheet
from sf_tui.tui import console
from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.sent_cells import ChangedCells, SentCells
from support.answer_sheets import capitals
from support.console_scenes import begun
from tui.driving import let_time_pass, open_dialog
from tui.written_run import WrittenRun

WIDTH, HEIGHT = 24, 6
STYLES = (
    Style(),
    Style(color="color(75)"),
    Style(color="color(246)", bold=True),
    Style(bgcolor="color(236)"),
    Style(reverse=True),
    Style(color="color(75)", underline=True),
)
SIGNS = "ab      ─⣿界"

cells = st.tuples(st.sampled_from(SIGNS), st.sampled_from(STYLES))
rows = st.lists(cells, min_size=WIDTH, max_size=WIDTH)
screens = st.lists(rows, min_size=HEIGHT, max_size=HEIGHT)
regions = st.tuples(
    st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(1, WIDTH), st.integers(1, 3)
)


def strip_of(row: list[tuple[str, Style]]) -> Strip:
    strip = Strip([Segment(sign, style) for sign, style in row])
    return strip.adjust_cell_length(WIDTH)


def whole(screen: list[list[tuple[str, Style]]]) -> LayoutUpdate:
    region = Region(0, 0, WIDTH, HEIGHT)
    return LayoutUpdate([[strip_of(row)] for row in screen], region)


def part(screen: list[list[tuple[str, Style]]], region: tuple[int, int, int, int]) -> ChopsUpdate:
    x, y, width, height = region
    end = min(x + width, WIDTH)
    lines = range(y, min(y + height, HEIGHT))
    return ChopsUpdate(
        [{0: strip_of(row)} for row in screen],
        [(line, x, end) for line in lines],
        [[WIDTH] for _ in screen],
    )


class Watched:
    """A terminal that is sent updates as the console sends them."""

    def __init__(self, *, clears: bool = False) -> None:
        self.sent = SentCells()
        self.clears = clears
        self.screen = pyte.Screen(WIDTH, HEIGHT)
        self._stream = pyte.Stream(self.screen)
        self._console = Console(color_system="256", force_terminal=True)

    def show(self, update: LayoutUpdate | ChopsUpdate) -> str:
        changed = ChangedCells(update, self.sent, clears=self.clears)
        text = changed.render_segments(self._console)
        self._stream.feed(text)
        return text

    def show_as_textual_does(self, update: LayoutUpdate) -> None:
        self._stream.feed(update.render_segments(self._console))

    def seen(self) -> list[list[tuple[Any, ...]]]:
        """Return what can be seen of each cell."""
        return [
            [
                (
                    cell.data,
                    cell.bg,
                    cell.reverse,
                    cell.underscore,
                    *((cell.fg, cell.bold) if cell.data.strip() else ()),
                )
                for cell in (self.screen.buffer[y][x] for x in range(WIDTH))
            ]
            for y in range(HEIGHT)
        ]


@pytest.mark.parametrize("clears", [False, True])
@given(shown=st.lists(st.tuples(screens, st.none() | regions), min_size=2, max_size=4))
@settings(deadline=None, max_examples=20)
def test_the_terminal_shows_what_textual_would_have_sent(clears: bool, shown: list[Any]) -> None:
    watched = Watched(clears=clears)
    for number, (screen, region) in enumerate(shown):
        if region is None or number == 0:
            update: LayoutUpdate | ChopsUpdate = whole(screen)
        else:
            update = part(screen, region)
        watched.show(update)
    # The last screen as a whole: what a terminal shows that never saw another.
    last = shown[-1][0]
    watched.show(whole(last))
    fresh = Watched()
    fresh.show_as_textual_does(whole(last))
    assert watched.seen() == fresh.seen()
    assert watched.show(whole(last)) == ""


@pytest.mark.parametrize("clears", [False, True])
def test_a_redraw_mends_what_another_program_wrote(clears: bool) -> None:
    watched = Watched(clears=clears)
    screen = [[("a", STYLES[1])] * WIDTH] * HEIGHT
    watched.show(whole(screen))
    before = watched.seen()
    watched.screen.reset()
    watched.screen.draw("Broadcast message")
    watched.sent.forget()
    watched.show(whole(screen))
    assert watched.seen() == before


class CountedConsole(ConsoleApp):
    """A console without a terminal that counts the bytes it would send."""

    CSS_PATH = Path(console.__file__).with_name("console.tcss")
    sent_bytes = 0

    def _display(self, screen: object, renderable: object) -> None:
        if isinstance(renderable, LayoutUpdate | ChopsUpdate):
            self.console._color_system = ColorSystem.EIGHT_BIT
            changed: CompositorUpdate = ChangedCells(renderable, self._sent, clears=self._clears)
            self.sent_bytes += len(changed.render_segments(self.console).encode())
        super()._display(screen, renderable)

    def taken(self) -> int:
        """Return the bytes since the last call."""
        self.sent_bytes, count = 0, self.sent_bytes
        return count


SECONDS = 12
DIALOGS = ("help", "answers", "palette", "picker")


async def poll(pilot: Pilot[int], app: ConsoleApp, written: WrittenRun, *, seconds: int) -> None:
    """Let the console look as often as it does in that time, while the worker lives."""
    for _ in range(4 * seconds):
        let_time_pass(app, 0.25)
        beat = {"time": app.options.wall_clock(), "host": "node-7", "pid": 4711}
        written.run.heartbeat.write_bytes(orjson.dumps(beat))
        app.poll()
        await pilot.pause()


async def dialog_bytes(pilot: Pilot[int], app: CountedConsole) -> dict[str, int]:
    """Return the bytes of opening and closing dialogs that have much to show."""
    found = {}
    more = " and more words than a column of answers has room for, in every row"
    write_sheet(app.view.run, capitals(more=more))
    for key, name in (("e", "answers"), ("colon", "palette"), ("R", "picker")):
        await open_dialog(pilot, app, key)
        found[f"opening {name}"] = app.taken()
        await pilot.press("escape")
        await pilot.pause()
        found[f"closing {name}"] = app.taken()
    return found


async def bytes_sent(written: WrittenRun, *, lite: bool) -> dict[str, int]:
    """Return the bytes of a session's parts at 120x40, some of it with a step a second."""
    app = CountedConsole(written.run, replace(written.options(), lite=lite))
    found = {}
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        found["first frame"] = app.taken()
        await open_dialog(pilot, app, "?")
        found["opening help"] = app.taken()
        await pilot.press("escape")
        await pilot.pause()
        found["closing help"] = app.taken()
        for second in range(SECONDS):
            written.step(86 + second)
            await poll(pilot, app, written, seconds=1)
        found["a step a second"] = app.taken()
        # What is due less often is still sent.
        await poll(pilot, app, written, seconds=8)
        app.taken()
        await poll(pilot, app, written, seconds=4)
        found["nothing changes"] = app.taken()
        if not lite:
            found |= await dialog_bytes(pilot, app)
    return found


@pytest.fixture
def two_runs(make_run: Callable[..., WrittenRun]) -> tuple[WrittenRun, WrittenRun]:
    names = iter(("20260301-093000-biography-mini-a1b2", "20260301-093000-biography-mini-a1b3"))
    return begun(lambda: make_run(next(names)), 85), begun(lambda: make_run(next(names)), 85)


async def test_dialogs_are_small_lite_is_smaller_and_a_still_run_sends_nothing(
    two_runs: tuple[WrittenRun, WrittenRun],
) -> None:
    full = await bytes_sent(two_runs[0], lite=False)
    lite = await bytes_sent(two_runs[1], lite=True)
    assert full["nothing changes"] == lite.pop("nothing changes") == 0
    shares = {part: lite[part] / full[part] for part in lite}
    assert lite["first frame"] <= 4 * 1024, (full, lite)
    assert shares["a step a second"] <= 1 / 3, (full, lite)
    # A dialog's box is text: there is less to leave out.
    assert max(shares.values()) <= 3 / 4, (full, lite)
    # 40 KiB a second is the bound of the whole console; see the guide.
    assert full["a step a second"] / SECONDS < 4 * 1024
    dialogs = {
        part: sent for part, sent in full.items() if part.split()[0] in {"opening", "closing"}
    }
    assert len(dialogs) == 8
    assert max(dialogs.values()) <= 8 * 1024, dialogs
