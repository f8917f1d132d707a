"""rich's console with every text made printable before layout.

Apart from `output`, because rich takes a tenth of a second to import.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from sf_tui.printable import printable, unguarded


class PrintableConsole(Console):
    """A console whose only control sequences are rich's own: colors and a progress bar's moves.

    Markup, emoji codes and highlighting are off: a task may be named `[link=…]`.

    Args:
        file: the stream; default: stdout, or stderr with `stderr`.
        stderr: write to stderr.
        more: other arguments of rich's console.
    """

    def __init__(self, *, file: IO[str] | None = None, stderr: bool = False, **more: Any) -> None:
        more = {"markup": False, "emoji": False, "highlight": False} | more
        stream = file or unguarded(sys.stderr if stderr else sys.stdout)
        super().__init__(file=stream, stderr=stderr, **more)

    def render_str(self, text: str, **more: Any) -> Text:
        """Make a text printable before it is measured, to keep columns aligned."""
        return super().render_str(printable(text), **more)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of a renderable: rich's controls, and printable texts."""
        for text, style, control in super().render(renderable, options):
            if control:
                yield Segment(text, style, control)
                continue
            # A link is sent as an OSC sequence that contains the address.
            plain = style.update_link(None) if style is not None and style.link else style
            yield Segment(printable(text), plain)
