"""The command line's own errors, with what they quote of the arguments made printable."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typer.core import TyperGroup

from sf_tui.printable import printable


class PrintableGroup(TyperGroup):
    """The root command: all parsing below it happens inside these two calls."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Parse the root's own options."""
        with _printable_errors():
            return super().make_context(*arguments, **more)

    def invoke(self, *arguments: Any, **more: Any) -> Any:
        """Parse and do the sub-command."""
        with _printable_errors():
            return super().invoke(*arguments, **more)


@contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Usage errors have no public base class in typer; only they format a message.
        message = getattr(error, "message", None)
        if hasattr(error, "format_message") and isinstance(message, str):
            file = _dashed_file() if message.startswith("No such option") else None
            more = f" For the file {file} write ./{file}" if file else ""
            error.message = printable(message + more)  # type: ignore[attr-defined]
        raise


def _dashed_file() -> str | None:
    """Return an argument that was taken for options and is the name of a file."""
    dashed = (argument for argument in sys.argv[1:] if argument.startswith("-"))
    return next((argument for argument in dashed if os.path.lexists(argument)), None)
