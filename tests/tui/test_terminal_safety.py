"""The console of a forged run, at every panel and dialog: nothing in it steers the terminal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from sf_tui.tui.actions import CONSOLE_KEYS
from sf_tui.tui.exports import values_as_markdown
from sf_tui.tui.panels.panel import PrintableFilter
from sf_tui.tui.picker import RunPicker
from support.hostile import EVERYWHERE, IN_NAMES, full_run, steering, steering_beside_csi
from support.pseudo_terminal import Terminal
from tui.driving import console_of, screen_text
from tui.written_run import PROFILE, WrittenRun

MakeRun = Callable[..., WrittenRun]
NAME = f"20260301-093000-x-{IN_NAMES}"
# `m` writes the clipboard because the operator asks for it; what it writes has its own test.
PRESSED = [key for entry in CONSOLE_KEYS for key in entry.keys if len(key) == 1 and key not in "qm"]
ACTION_KEYS = ("v", "b", "k", "r", "d", "f")


@pytest.fixture
def forged(make_run: MakeRun) -> WrittenRun:
    # TOML has JSON's escapes; the labels stand in the footer and in dialogs.
    label = "".join(f"\\u{ord(sign):04x}" for sign in IN_NAMES if ord(sign) < 0x10000)
    profile = PROFILE.replace("careful save", f"careful {label}")
    return full_run(lambda name: make_run(name, profile=profile), NAME)


def test_no_panel_and_no_dialog_steers_the_terminal(forged: WrittenRun) -> None:
    # A heartbeat from the future: the worker is alive at any date of the machine.
    forged.beat(age_s=-1e9)
    terminal = Terminal(["-m", "sf_tui.tui", str(forged.run.path)], {}, (160, 50))
    try:
        terminal.read_until("accuracy")
        for key in [*PRESSED, *ACTION_KEYS]:
            terminal.press(key)
            terminal.read(0.06)
            terminal.press("\x1b")
            terminal.read(0.06)
        assert terminal.process.poll() is None
        # What of it is wide enough for the panels stands there, spelled.
        assert "\\x1b]0;title" in terminal.screen()
        # A key that came in one piece with an escape has left a dialog open.
        for _ in range(3):
            terminal.press("\x1b")
            terminal.read_until_quiet(0.3)
        terminal.press("q")
        # All of it: a sequence that is cut in two would look like one of another kind.
        assert terminal.read_to_end() == 0
    finally:
        terminal.end()
    # Textual sets the shape of the mouse pointer. The console moves down with \r\n, and the
    # terminal's driver makes \r\n of each \n.
    sent = terminal.data.replace(b"\x1b]22;default\x07", b"")
    sent = sent.replace(b"\r\n", b"\n").replace(b"\r\n", b"\n")
    for sequence in (b"\x1b]", b"\x1bP", b"\x1b_", b"\x1bX", b"\x1bc", b"QUJD\x07"):
        at = sent.find(sequence)
        assert at < 0, sent[at : at + 80]
    assert steering_beside_csi(sent) == ""


@pytest.mark.parametrize("size", [(160, 50), (80, 24), (40, 12)])
async def test_forged_lines_are_as_wide_as_the_screen(
    forged: WrittenRun, size: tuple[int, int]
) -> None:
    app = console_of(forged)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        text = screen_text(app)
        assert steering(text) == ""
        assert {cell_len(line) for line in text.split("\n")} == {size[0]}


async def test_the_picker_shows_what_it_must_not_send(forged: WrittenRun) -> None:
    app = RunPicker(forged.options())
    async with app.run_test(size=(160, 20)) as pilot:
        await pilot.pause()
        text = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
        assert steering(text) == ""
        assert "\\x" in text or "\\u" in text


def test_the_last_guard_keeps_the_width() -> None:
    text = f"a{EVERYWHERE}b"
    segments = [Segment(text, Style(link="http://example.org")), Segment("日本")]
    kept = PrintableFilter().apply(segments, Color(0, 0, 0))
    shown = "".join(segment.text for segment in kept)
    assert steering(shown) == ""
    assert cell_len(shown) == cell_len(text + "日本")
    assert all(segment.style is None or segment.style.link is None for segment in kept)


def test_what_is_copied_steers_no_terminal(forged: WrittenRun) -> None:
    copied = values_as_markdown(console_of(forged).view)
    assert steering(copied) == ""
    assert "\\x1b]0;title" in copied
