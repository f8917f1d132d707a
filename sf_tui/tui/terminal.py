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
    """Choices that hold for the console's life.

    Attributes:
        read_only: send nothing to the run.
        lite: half the rate, no mouse: for slow links.
        ascii_only: no braille and no box signs.
        no_color: the terminal's own two colors only.
        light: begin with the light theme.
        zone: time zone of the times shown; None for the machine's own.
        wall_clock: seconds since the epoch.
        steady_clock: seconds that only ever rise.
    """

    read_only: bool = False
    lite: bool = False
    ascii_only: bool = False
    no_color: bool = False
    light: bool = False
    zone: tzinfo | None = None
    wall_clock: Callable[[], float] = time.time
    steady_clock: Callable[[], float] = time.monotonic


def draws_braille(environ: Mapping[str, str], encoding: str) -> bool:
    """Tell whether a terminal can be expected to show braille and box signs.

    The Linux console's fonts have no braille, and a locale that is not UTF-8 garbles both.

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
    """Return the options with what the terminal and its owner don't want taken off.

    Args:
        options: what was asked for.
        environ: the environment.
        encoding: in which the picture is written.
    """
    return replace(
        options,
        ascii_only=options.ascii_only or not draws_braille(environ, encoding),
        no_color=options.no_color or bool(environ.get("NO_COLOR")),
        light=options.light or has_light_background(environ),
    )


def has_light_background(environ: Mapping[str, str]) -> bool:
    """Tell whether the terminal says that its background is light (`COLORFGBG=0;15`)."""
    return environ.get("COLORFGBG", "").rpartition(";")[2] in {"7", "15"}


LOST_EXIT_CODE = 75
"""EX_TEMPFAIL: the console lost its terminal; the run goes on."""
INTERRUPTED_EXIT_CODE = 130
TERMINATED_EXIT_CODE = 143
CHECK_EVERY_S = 0.5
STALLED_AFTER_S = 600.0
"""A terminal that takes nothing for ten minutes is taken for lost: whoever comes back attaches."""
_PATIENCE_S = 0.3
"""A terminal in the middle of a frame takes more within this time if it still reads."""
_RESTORE = b"\x18\x1b[?2004l\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h"
"""Cuts off a sequence that is half written, and undoes what Textual switches on: paste, wrap,
mouse, keyboard, screen, cursor."""


def is_writable(descriptor: int, wait_s: float = 0.0) -> bool:
    """Tell whether a terminal takes a write, waiting for that at most `wait_s`.

    One that is gone takes none.
    """
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    try:
        return any(flags & select.POLLOUT for _, flags in poller.poll(wait_s * 1000))
    except OSError:
        return False


def is_lost(descriptor: int, wait_s: float = 0.0) -> bool:
    """Tell whether a terminal's other end has closed, waiting for that at most `wait_s`."""
    poller = select.poll()
    # Nothing is asked for: a hang-up is always told.
    poller.register(descriptor, 0)
    try:
        for _, flags in poller.poll(wait_s * 1000):
            if flags & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                return True
    except OSError:
        return True
    return not os.isatty(descriptor)


class TerminalWatch:
    """Ends this process when its terminal is lost, or when it is told to go.

    Args:
        input_descriptor: where keys come from.
        output_descriptor: where the picture goes.
        leave: ends the process with an exit code; replaced in tests.
        stalled_after_s: how long a terminal may take nothing.
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
        """Watch from now on; call it in the main thread, before the terminal is changed."""
        with suppress(termios.error):
            self._before = termios.tcgetattr(self._input)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._on_signal)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer; the signals mean again what they meant before."""
        self._ended.set()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._give_back_terminal()
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
                self._give_back_terminal()
                self._leave(LOST_EXIT_CODE)
                return

    def _give_back_terminal(self) -> None:
        """Leave the terminal as it was found, as far as it still listens."""
        if is_writable(self._output, _PATIENCE_S):
            with suppress(OSError):
                os.write(self._output, _RESTORE)
        if self._before is not None:
            with suppress(termios.error):
                termios.tcsetattr(self._input, termios.TCSANOW, self._before)
