"""The terminal: what it can display, what the operator asked for, and what happens when it is lost.

A Textual application whose terminal is gone would use more than a core and never end; one whose
terminal stops reading blocks in a write. A separate thread therefore watches the terminal and ends
the process when it is lost. Knows descriptors, signals and the environment; knows nothing of runs
and never imports Textual.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import tzinfo
from types import FrameType
from typing import Any


@dataclass(frozen=True)
class ConsoleOptions:
    """Options of one console session.

    Attributes:
        read_only: send nothing to the run.
        lite: about a third of the bytes, for slow links: fewer updates, short escape sequences, the
            terminal's own background, no mouse.
        ascii_only: no braille and no box-drawing characters.
        no_color: the terminal's own two colors only.
        light: start with the light theme.
        bell: ring the bell at warnings and at the end, whatever the profile says.
        zone: time zone of the times shown; None for the machine's.
        wall_clock: seconds since the epoch.
        steady_clock: monotonic seconds.
    """

    read_only: bool = False
    lite: bool = False
    ascii_only: bool = False
    no_color: bool = False
    light: bool = False
    bell: bool = False
    zone: tzinfo | None = None
    wall_clock: Callable[[], float] = time.time
    steady_clock: Callable[[], float] = time.monotonic


def draws_braille(environ: Mapping[str, str], encoding: str) -> bool:
    """Return whether a terminal can be expected to show braille and box-drawing characters.

    The Linux console's fonts have no braille, and a locale other than UTF-8 garbles both.

    Args:
        environ: the environment.
        encoding: of the locale, such as `UTF-8`.
    """
    if environ.get("TERM", "") in {"linux", "dumb", "vt100", "vt220"}:
        return False
    return encoding.lower().replace("-", "") == "utf8"


def fit_options(
    options: ConsoleOptions, environ: Mapping[str, str], encoding: str
) -> ConsoleOptions:
    """Return the options without the features that the terminal or its user can't use.

    Args:
        options: the requested ones.
        environ: the environment.
        encoding: of the output stream.
    """
    return replace(
        options,
        ascii_only=options.ascii_only or not draws_braille(environ, encoding),
        no_color=options.no_color or bool(environ.get("NO_COLOR")),
        light=options.light or has_light_background(environ),
    )


def missing_for_console(environ: Mapping[str, str], *, stdout: bool = False) -> str:
    """Return what the console lacks here, in words; empty if it can open.

    Args:
        environ: the environment.
        stdout: require that stdout is a terminal as well, which a pipe's reader would miss.
    """
    streams = [(sys.stdin, "stdin"), (sys.stderr, "stderr")] + [(sys.stdout, "stdout")] * stdout
    for stream, name in streams:
        # Python has no stream for a descriptor that was closed.
        if stream is None or not stream.isatty():
            return f"the console needs a terminal, but {name} is not a terminal"
    if environ.get("TERM") == "dumb":
        return "the console needs a terminal that moves its cursor, but TERM is dumb"
    return ""


def has_light_background(environ: Mapping[str, str]) -> bool:
    """Return whether the terminal reports a light background (`COLORFGBG=0;15`)."""
    return environ.get("COLORFGBG", "").rpartition(";")[2] in {"7", "15"}


LOST_EXIT_CODE = 75
"""EX_TEMPFAIL: the console lost its terminal; the run continues."""
INTERRUPTED_EXIT_CODE = 130
TERMINATED_EXIT_CODE = 143
CHECK_EVERY_S = 0.5
STALLED_AFTER_S = 600.0
"""A terminal that accepts no output for ten minutes counts as lost; the user can attach again."""
_PATIENCE_S = 0.3
"""Time in which a terminal that still reads accepts more output."""
_RESTORE = b"\x18\x1b[?2004l\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h"
"""Cancels a half-written sequence and resets the modes that Textual sets: paste, wrap, mouse,
keyboard, screen, cursor."""


def restore_screen(descriptor: int) -> None:
    """Leave the full screen and reset the modes that a console set and can't reset itself."""
    if is_writable(descriptor, _PATIENCE_S):
        with suppress(OSError):
            os.write(descriptor, _RESTORE)


def is_writable(descriptor: int, wait_s: float = 0.0) -> bool:
    """Return whether a terminal accepts a write within `wait_s`; False if it is gone."""
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    try:
        return any(flags & select.POLLOUT for _, flags in poller.poll(wait_s * 1000))
    except OSError:
        return False


def is_lost(descriptor: int, wait_s: float = 0.0) -> bool:
    """Return whether a terminal's other end closes within `wait_s` or has closed."""
    poller = select.poll()
    # No event mask: poll always reports a hang-up.
    poller.register(descriptor, 0)
    try:
        for _, flags in poller.poll(wait_s * 1000):
            if flags & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                return True
    except OSError:
        return True
    return not os.isatty(descriptor)


class TerminalWatch:
    """Ends this process when its terminal is lost, or on SIGHUP, SIGTERM or SIGINT.

    Args:
        input_descriptor: of the keyboard input.
        output_descriptor: of the screen output.
        leave: ends the process with an exit code; replaced in tests.
        stalled_after_s: time without an accepted write after which a terminal counts as lost.
    """

    def __init__(
        self,
        input_descriptor: int,
        output_descriptor: int,
        *,
        leave: Callable[[int], Any] = os._exit,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        self._input = input_descriptor
        self._output = output_descriptor
        self._leave = leave
        self._stalled_after_s = stalled_after_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="terminal-watch", daemon=True)
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}

    def start(self) -> None:
        """Start to watch. Call it in the main thread before the terminal's modes change."""
        with suppress(termios.error):
            self._before = termios.tcgetattr(self._input)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._on_signal)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching and restore the signal handlers."""
        self._ended.set()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._restore_terminal()
        codes: dict[int, int] = {
            signal.SIGTERM: TERMINATED_EXIT_CODE,
            signal.SIGINT: INTERRUPTED_EXIT_CODE,
        }
        self._leave(codes.get(number, LOST_EXIT_CODE))

    def _watch(self) -> None:
        took_last = time.monotonic()
        while not self._ended.is_set():
            if is_lost(self._input, CHECK_EVERY_S) or is_lost(self._output):
                if not self._ended.is_set():
                    self._leave(LOST_EXIT_CODE)
                return
            if is_writable(self._output):
                took_last = time.monotonic()
            elif time.monotonic() - took_last > self._stalled_after_s:
                self._restore_terminal()
                self._leave(LOST_EXIT_CODE)
                return

    def _restore_terminal(self) -> None:
        """Restore the terminal's modes if it still accepts output."""
        restore_screen(self._output)
        if self._before is not None:
            with suppress(termios.error):
                termios.tcsetattr(self._input, termios.TCSANOW, self._before)
