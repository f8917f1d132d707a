"""The only way from a command to a terminal: lines, JSON and rich renderables, all printable.

No other module of the command line prints; a test checks that. It also records Ctrl-C for code that
may swallow the KeyboardInterrupt.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import IO, TYPE_CHECKING, Any

from sf_tui.printable import printable, printable_json, unguarded

if TYPE_CHECKING:
    from rich.console import Console


def write_line(text: str = "", *, err: bool = False, end: str = "\n") -> None:
    """Write text with control characters escaped.

    Args:
        text: one or more lines.
        err: write to stderr, unbuffered.
        end: written after the text.
    """
    print(printable(text), file=sys.stderr if err else sys.stdout, end=end, flush=err)


def ring() -> None:
    """Ring the bell of the terminal on stderr; nothing happens without one."""
    if sys.stderr is not None and sys.stderr.isatty():
        stream = unguarded(sys.stderr)
        stream.write("\a")
        stream.flush()


def write_json(value: object, default: Callable[[Any], Any] | None = None) -> None:
    """Write a value to stdout as JSON on one line.

    Args:
        value: any value that orjson accepts, including numpy numbers.
        default: converts other values.
    """
    # Deferred: not needed for `sf --help`.
    import orjson

    try:
        text = orjson.dumps(value, default, orjson.OPT_SERIALIZE_NUMPY).decode()
    except TypeError as error:
        # A path that is not UTF-8; JSON escapes can represent it.
        if "surrogates" not in str(error):
            raise
        text = json.dumps(value, default=default)
    write_json_text(text)


def write_json_text(text: str) -> None:
    """Write JSON text to stdout with control characters escaped; its value is unchanged."""
    print(printable_json(text))


def write_event(stream: IO[bytes], event: dict[str, Any]) -> None:
    """Write one event as a line of JSON to a binary stream and flush it."""
    # Deferred: not needed for `sf --help`.
    import orjson

    line = orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY)
    if not line.isascii() or b"\x7f" in line:
        line = printable_json(line.decode()).encode()
    stream.write(line + b"\n")
    stream.flush()


def drawing_console(
    *, err: bool = False, soft_wrap: bool = False, whole_rows: bool = False
) -> Console:
    """Return a rich console on stdout or stderr; strings are printed as text, never as markup.

    Args:
        err: use stderr instead of stdout.
        soft_wrap: let the terminal break lines.
        whole_rows: don't cut or wrap a table that is read by another program.
    """
    # Deferred: rich takes a tenth of a second.
    from sf_tui.cli.printable_console import PrintableConsole

    console = PrintableConsole(stderr=err, soft_wrap=soft_wrap)
    if whole_rows and not console.is_terminal:
        console.width = _UNLIMITED_CELLS
    return console


_UNLIMITED_CELLS = 10_000


INTERRUPTED = 130
"""Exit code of an interrupted command: 128 + SIGINT, as in shells."""

_received = False


def install_sigint() -> None:
    """Record SIGINT and raise KeyboardInterrupt; a process started to ignore SIGINT still does."""
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
