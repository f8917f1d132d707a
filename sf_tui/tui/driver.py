"""The terminal as the console drives it: its size, its mouse, and stopping the job with ctrl+z.

Textual asks COLUMNS and LINES first and then stdout. Exported by a shell or a batch script they
would keep the console at one size however the terminal is resized, and with stdout in a pipe it
would be taken for 80x24. The console draws on stderr, so the terminal there is asked. Knows
descriptors, processes and signals; knows nothing of panels.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from textual import events
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message


class TerminalDriver(LinuxDriver):
    """Textual's driver, for the terminal that is drawn on and the shell behind it."""

    _is_stopped = False

    def _get_terminal_size(self) -> tuple[int, int]:
        """Return columns and rows; what Textual knows if the terminal does not tell."""
        # Textual puts its own object in the place of sys.stderr.
        if sys.__stderr__ is not None:
            with suppress(OSError):
                size = os.get_terminal_size(sys.__stderr__.fileno())
                # A serial line or a bare pseudo-terminal has 0x0.
                if size.columns and size.lines:
                    return size.columns, size.lines
        return super()._get_terminal_size()

    def _enable_mouse_support(self) -> None:
        """Ask for clicks and the wheel only: over SSH, every reported move costs a packet."""
        if self._mouse:
            self.write("\x1b[?1000h\x1b[?1006h")
            self.flush()

    def process_message(self, message: Message) -> None:
        """Stop the job at ctrl+z, also in a dialog; the terminal itself sends no signal for it."""
        if isinstance(message, events.Key) and message.key == "ctrl+z" and has_shell_behind():
            os.kill(os.getpid(), signal.SIGTSTP)
            return
        super().process_message(message)

    def _sigtstp_application(self, *_: object) -> None:
        """Give the terminal back to the shell and stop, as a program without a handler would."""
        if self._is_stopped or not has_shell_behind():
            return
        self._is_stopped = True
        self.suspend_application_mode()
        # The whole group, as the terminal would: a wrapper that waits for the console must stop,
        # too, or the shell keeps waiting.
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.killpg(os.getpgrp(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)

    def _sigcont_application(self, *_: object) -> None:
        """Take the terminal again; the size event that this sends draws the whole screen."""
        if not self._is_stopped:
            # Stopped by SIGSTOP: the shell has changed the terminal's modes meanwhile.
            self.suspend_application_mode()
        self._is_stopped = False
        self.resume_application_mode()


def has_shell_behind() -> bool:
    """Return whether a shell with job control could continue this process once it is stopped.

    `ssh -t HOST sf attach RUN` and a container's first process have none: their process group is
    orphaned, and would stay stopped.
    """
    # Deferred: only needed once a key or a signal asks for it.
    import psutil

    group, session = os.getpgrp(), os.getsid(0)
    with suppress(OSError, psutil.Error):
        for parent in psutil.Process().parents():
            if os.getpgid(parent.pid) != group:
                return os.getsid(parent.pid) == session
    return False
