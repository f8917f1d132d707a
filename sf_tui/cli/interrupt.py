"""Ctrl-C, remembered for work that may swallow the KeyboardInterrupt.

Python prints and drops one that is raised while a generator is closed, and a library's error
handling may turn it into another error. Long-running work calls `check_interrupt` between steps.
"""

from __future__ import annotations

import signal
from types import FrameType

INTERRUPTED = 130
"""Exit code of an interrupted command: 128 + SIGINT, as in shells."""

_received = False


def install_sigint() -> None:
    """Record SIGINT and raise KeyboardInterrupt; a process started to ignore it still does."""
    global _received
    _received = False
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_sigint)


def was_interrupted() -> bool:
    """Return whether SIGINT has come since `install_sigint`."""
    return _received


def check_interrupt() -> None:
    """Raise KeyboardInterrupt if SIGINT has come since `install_sigint`."""
    if _received:
        raise KeyboardInterrupt


def _on_sigint(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    global _received
    _received = True
    raise KeyboardInterrupt
