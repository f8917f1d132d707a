"""The console's process on a real pseudo-terminal: how it comes up, and how it goes."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sf_tui.tui.terminal import TerminalWatch, is_lost, is_writable
from support import PATIENCE_S
from support.pseudo_terminal import Terminal
from tui.written_run import WrittenRun

LOST = 75
QUIET_S = 2.0
"""More than the time between two looks of the console at its run."""

OpenConsole = Callable[..., Terminal]


@pytest.fixture
def running(running: WrittenRun) -> WrittenRun:
    """Return the run with a heartbeat from 1970: its worker is dead at any date of the machine."""
    running.beat(age_s=running.now_s)
    return running


@pytest.fixture
def open_console() -> Iterator[OpenConsole]:
    opened: list[Terminal] = []

    def open_(run: Path, *options: str, **environ: str) -> Terminal:
        opened.append(Terminal(["-m", "sf_tui.tui", str(run), *options], environ))
        return opened[-1]

    yield open_
    for terminal in opened:
        terminal.end()


def test_the_first_frame_comes_and_q_says_how_to_come_back(
    running: WrittenRun, open_console: OpenConsole
) -> None:
    terminal = open_console(running.run.path)
    terminal.read_until("accuracy")
    # A console that imported torch would need seconds for its first frame.
    mapped = Path(f"/proc/{terminal.process.pid}/maps").read_text()
    assert "site-packages" in mapped
    assert "torch" not in mapped
    terminal.read_until("worker dead")
    terminal.press("q")
    assert terminal.read_to_end() == 0
    assert f"sf resume {running.run.id}" in terminal.data.decode() or (
        f"sf attach {running.run.id}" in terminal.data.decode()
    )
    assert b"\x1b[?1049l" in terminal.data, "the screen that was there before is back"


def test_closing_the_terminal_ends_the_console(
    running: WrittenRun, open_console: OpenConsole
) -> None:
    terminal = open_console(running.run.path)
    terminal.read_until("accuracy")
    terminal.hang_up()
    assert terminal.process.wait(PATIENCE_S) == LOST


def test_sighup_ends_the_console_and_gives_the_terminal_back(
    running: WrittenRun, open_console: OpenConsole
) -> None:
    terminal = open_console(running.run.path)
    terminal.read_until("accuracy")
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.read_to_end() == LOST
    assert b"\x1b[?1049l" in terminal.data
    echo = termios.tcgetattr(terminal.master)[3] & termios.ECHO
    assert echo, "typed letters show again"


def test_sigterm_ends_the_console(running: WrittenRun, open_console: OpenConsole) -> None:
    terminal = open_console(running.run.path)
    terminal.read_until("accuracy")
    terminal.process.terminate()
    assert terminal.read_to_end() == 143


def unread_bytes(terminal: Terminal) -> int:
    """Return the number of bytes that the console has written and nothing has read."""
    answer = fcntl.ioctl(terminal.master, termios.FIONREAD, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def test_a_terminal_that_stops_reading_is_waited_for_but_can_still_hang_up(
    running: WrittenRun, open_console: OpenConsole
) -> None:
    terminal = open_console(running.run.path)
    terminal.read_until("accuracy")
    # Resizing makes whole frames, until the kernel takes no more of them.
    deadline = time.monotonic() + PATIENCE_S
    unread = 0
    while (grown := unread_bytes(terminal)) > unread or not grown:
        assert time.monotonic() < deadline, "the terminal never fills up"
        unread = grown
        for width in (100, 120) * 10:
            fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
            terminal.process.send_signal(signal.SIGWINCH)
            time.sleep(0.03)
    process = psutil.Process(terminal.process.pid)
    busy_share = 1.0
    while busy_share > 0.2:
        assert time.monotonic() < deadline, "waiting keeps the processor busy"
        before, began = sum(process.cpu_times()[:2]), time.monotonic()
        time.sleep(1.0)
        busy_share = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
    assert terminal.process.poll() is None
    terminal.hang_up()
    assert terminal.process.wait(PATIENCE_S) == LOST


def test_a_still_run_sends_nothing(running: WrittenRun, open_console: OpenConsole) -> None:
    terminal = open_console(running.run.path)
    terminal.read_until("accuracy")
    terminal.read_until_quiet(QUIET_S)


def test_the_console_can_be_killed_and_the_run_is_as_it_was(
    running: WrittenRun, open_console: OpenConsole
) -> None:
    before = {path: path.read_bytes() for path in running.run.path.rglob("*") if path.is_file()}
    terminal = open_console(running.run.path)
    terminal.read_until("accuracy")
    terminal.process.kill()
    terminal.process.wait()
    after = {path: path.read_bytes() for path in running.run.path.rglob("*") if path.is_file()}
    assert after == before


def test_no_color_sends_no_color(running: WrittenRun, open_console: OpenConsole) -> None:
    terminal = open_console(running.run.path, NO_COLOR="1")
    terminal.read_until("accuracy")
    assert b"38;5;" not in terminal.data
    assert b"38;2;" not in terminal.data
    assert b"48;" not in terminal.data


def test_a_locale_without_utf8_gets_ascii(running: WrittenRun, open_console: OpenConsole) -> None:
    terminal = open_console(running.run.path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    terminal.read_until("accuracy")
    assert terminal.data.decode("ascii")


def test_the_console_never_imports_torch() -> None:
    code = (
        "import sys, sf_tui.tui.console, sf_tui.tui.session, sf_tui.tui.picker\n"
        "heavy = {'torch', 'transformers', 'datasets', 'accelerate', 'sf_tui.engine',"
        " 'sf_tui.worker', 'sf_tui.tasks', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert done.stdout.strip() == "[]"


def test_a_hung_up_terminal_is_told_at_once() -> None:
    master, slave = os.openpty()
    try:
        assert not is_lost(slave)
        assert is_writable(slave)
        os.close(master)
        # Longer than a test may take: it must not wait for that.
        assert is_lost(slave, wait_s=100_000.0)
    finally:
        os.close(slave)


def test_a_terminal_that_takes_nothing_for_long_is_taken_for_lost() -> None:
    master, slave = os.openpty()
    codes: list[int] = []
    os.set_blocking(slave, False)
    try:
        # The kernel moves what was written on for a moment, and then takes a little more.
        while is_writable(slave, wait_s=0.2):
            os.write(slave, b"x" * 256)
        watch = TerminalWatch(slave, slave, leave=codes.append, stalled_after_s=0.6)
        watch.start()
        deadline = time.monotonic() + PATIENCE_S
        while not codes and time.monotonic() < deadline:
            time.sleep(0.1)
        watch.stop()
        assert codes == [LOST]
    finally:
        os.close(master)
        os.close(slave)
