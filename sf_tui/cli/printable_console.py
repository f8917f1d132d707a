"""Rich's console with every text in it made printable before it is laid out."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from sf_tui.guarded_stream import unguarded
from sf_tui.printable import printable


class PrintableConsole(Console):
    """A console whose only control sequences are rich's own: colors and a progress bar's moves.

    Markup, emoji codes and highlighting are off: a task may be named `[link=…]`.

    Args:
        file: where to; stdout when neither it nor `stderr` is given.
        stderr: to stderr.
        more: what else rich's console takes.
    """

    def __init__(self, *, file: IO[str] | None = None, stderr: bool = False, **more: Any) -> None:
        more = {"markup": False, "emoji": False, "highlight": False} | more
        stream = file or unguarded(sys.stderr if stderr else sys.stdout)
        super().__init__(file=stream, stderr=stderr, **more)

    def render_str(self, text: str, **more: Any) -> Text:
        """Make a text printable before it is measured, so that columns stay aligned."""
        return super().render_str(printable(text), **more)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the pieces of a renderable: its controls are rich's, its texts printable."""
        for text, style, control in super().render(renderable, options):
            if control:
                yield Segment(text, style, control)
                continue
            # A link is sent as an operating system command with the address in it.
            plain = style.update_link(None) if style is not None and style.link else style
            yield Segment(printable(text), plain)
