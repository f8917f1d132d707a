"""What an operator does at a real terminal: reads events, clicks, pastes, suspends the console."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from sf_tui.tui.console import NOT_KEYS
from sf_tui.tui.dialogs.dialog import DEAF_FOR_S
from sf_tui.tui.key_bursts import BURST_S
from sf_tui.vocabulary.events import CheckpointWritten
from support import PATIENCE_S
from support.console_scenes import MakeRun, begun
from support.pseudo_terminal import Terminal
from tui.driving import sent
from tui.written_run import WrittenRun

SIZE = (80, 24)
MOST_BYTES = 8 * 1024
LONG_REASON = (
    "loss 6.3969292640686035 at step 86 is followed by NaN: lower [train] learning_rate, or set "
    "[train] on_nan = 'rollback' so that the run goes back to its last checkpoint by itself"
)
ALERT = "'old' dropped by 25 points"


def long_run(make_run: MakeRun) -> WrittenRun:
    """Return a run whose alert was long ago, and whose newest events are checkpoints."""
    written = begun(make_run, 85)
    written.command("c-9", "recover", "accepted", 86)
    written.command("c-9", "recover", "failed", 86, reason=LONG_REASON)
    for step in range(90, 190, 10):
        path = f"checkpoints/new/step-{step:06d}"
        (written.run.path / path).mkdir(parents=True)
        written.event(CheckpointWritten(stage="new", step=step, path=path, bytes=12_700_000))
    # From the future: the worker is alive at any date of the machine.
    written.beat(age_s=-1e9)
    lines = "".join(f"log line {number}\n" for number in range(1, 301))
    written.run.worker_log.write_text(lines)
    return written


def click(terminal: Terminal, text: str, y: int) -> None:
    """Click the first cell of a text in a row, as a terminal with a mouse reports it."""
    terminal.read_until(text)
    x = terminal.screen().split("\n")[y].index(text)
    terminal.press(f"\x1b[<0;{x + 1};{y + 1}M\x1b[<0;{x + 1};{y + 1}m")


def wait_for_command(written: WrittenRun, name: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while name not in [action for action, _ in sent(written)]:
        assert time.monotonic() < deadline, f"{name} was not sent"
        time.sleep(0.02)


def gone(terminal: Terminal, text: str) -> None:
    """Read until a text is no longer on the screen."""
    deadline = time.monotonic() + PATIENCE_S
    while text in terminal.screen():
        assert time.monotonic() < deadline, terminal.screen()
        terminal.read(0.05)


def test_an_operator_reads_the_events_and_uses_the_mouse(make_run: MakeRun) -> None:
    written = long_run(make_run)
    terminal = Terminal(["-m", "sf_tui.tui", str(written.run.path)], {}, SIZE)
    try:
        terminal.read_until("10 checkpoints, steps 90 to 180")
        assert ALERT in terminal.screen(), "what matters stays above checkpoints"
        assert re.search(r"loss  [▁▂▃▄▅▆▇█]+ +0\.\d+", terminal.screen())
        assert ": more" in terminal.screen()
        # Clicks and the wheel are asked for, not each move of the mouse.
        assert b"\x1b[?1000h" in terminal.data
        assert b"\x1b[?1003h" not in terminal.data

        terminal.press("\x1b[A")
        terminal.read_until(" of ")
        terminal.press("k")
        terminal.press("\r")
        terminal.read_until("go there in the charts")
        # Without the box's sides and what is beside them.
        inside = [line[2:-2] for line in terminal.screen().split("\n")]
        whole = " ".join(" ".join(inside).split())
        assert LONG_REASON in whole, "read in full"
        terminal.read(2 * DEAF_FOR_S)
        terminal.press("\r")
        terminal.read_until("replay new@8")
        terminal.press("\x1b")
        gone(terminal, " of ")
        terminal.press("\x1b")
        gone(terminal, "replay")

        terminal.press("/")
        terminal.read_until("show what contains")
        terminal.press("danger")
        # A dialog takes no answer right after it has opened.
        terminal.read(2 * DEAF_FOR_S)
        terminal.press("\r")
        terminal.read_until("filter: danger")
        terminal.press("\x1b")
        gone(terminal, "filter: danger")

        # The wheel over the events.
        terminal.press("\x1b[<64;10;21M")
        terminal.read_until(" of ")
        terminal.press("G")
        gone(terminal, " of ")
        # A click in the plot is a step; one right of the newest step is the present.
        terminal.press("\x1b[<0;16;10M\x1b[<0;16;10m")
        terminal.read_until("replay new@")
        terminal.press("\x1b[<0;70;10M\x1b[<0;70;10m")
        gone(terminal, "replay")

        click(terminal, "? help", SIZE[1] - 1)
        terminal.read_until("Signs")
        terminal.press("\x1b")
        gone(terminal, "Signs")
        click(terminal, "d diagnose", SIZE[1] - 1)
        wait_for_command(written, "diagnose")

        # Tab moves the zoom, to panels that this size has no room for otherwise.
        terminal.press("7")
        terminal.read_until("log line 300")
        terminal.press("\x1b[5~")
        gone(terminal, "log line 300")
        terminal.read_until("line ")
        terminal.press("\t")
        terminal.read_until("▸ machine")
        terminal.press("\t")
        terminal.read_until("▸ accuracy")
        terminal.press("z")
        terminal.read_until("events ──")
        assert terminal.process.poll() is None
        terminal.press("q")
        assert terminal.read_to_end() == 0
    finally:
        terminal.end()


def test_text_is_not_taken_for_keys_and_help_is_small(make_run: MakeRun) -> None:
    written = long_run(make_run)
    terminal = Terminal(["-m", "sf_tui.tui", str(written.run.path)], {}, (120, 40))
    try:
        terminal.read_until("10 checkpoints")
        for text in ("\x1b[200~freeze\x1b[201~", "freeze", "fg\r"):
            terminal.press(text)
            terminal.read_until(NOT_KEYS)
            terminal.read(2 * BURST_S)
            terminal.press("j")
            gone(terminal, NOT_KEYS)
        # Nobody can continue a console that is its session's first process.
        terminal.press("\x1a")
        terminal.read_until("no shell to come back to")
        assert terminal.process.poll() is None
        assert sent(written) == []
        terminal.press("f")
        wait_for_command(written, "freeze")
        terminal.read_until("freeze: requested")
        terminal.read_until_quiet(0.6)
        # The whole way: what a terminal gets from pressing the key until all is drawn.
        terminal.press("?")
        terminal.read_until("Signs")
        terminal.read(0.3)
        opened = len(terminal.data)
        terminal.press("\x1b")
        gone(terminal, "Signs")
        terminal.read(0.3)
        closed = len(terminal.data) - opened
        assert closed <= MOST_BYTES
        before = len(terminal.data)
        terminal.press("?")
        terminal.read_until("Signs")
        terminal.read(0.3)
        assert len(terminal.data) - before <= MOST_BYTES
    finally:
        terminal.end()


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs a shell with job control")
def test_ctrl_z_gives_the_terminal_back_and_fg_draws_the_screen_again(make_run: MakeRun) -> None:
    written = long_run(make_run)
    shell = "import os; os.execv('/bin/bash', ['bash', '--norc', '--noprofile', '-i'])"
    terminal = Terminal(["-c", shell], {"PS1": "shell> "}, SIZE)
    try:
        terminal.read_until("shell> ")
        terminal.press(f"{sys.executable} -m sf_tui.tui {written.run.path} --no-mouse\n")
        terminal.read_until("10 checkpoints")
        assert b"\x1b[?1000h" not in terminal.data, "the terminal keeps the mouse"
        terminal.press("\x1a")
        terminal.read_until("Stopped")
        assert b"\x1b[?1049l" in terminal.data
        terminal.press("echo t''yped\n")
        terminal.read_until("typed")
        before = len(terminal.data)
        terminal.press("fg\n")
        terminal.read_until("10 checkpoints")
        terminal.read_until_quiet(0.6)
        assert terminal.data.count(b"\x1b[?1049h", before) == 1
        # What was typed for the shell froze nothing; what is typed now is a key again.
        assert sent(written) == []
        terminal.press("f")
        wait_for_command(written, "freeze")
        terminal.press("q")
        terminal.read_until("shell> ")
    finally:
        terminal.end()
