"""The command line's own errors, with what they quote of the arguments made printable."""

from __future__ import annotations

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
            error.message = printable(message)  # type: ignore[attr-defined]
        raise
