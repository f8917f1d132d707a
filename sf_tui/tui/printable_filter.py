"""The last guard between a widget and the terminal: no control sign leaves in a strip.

Panels make their texts printable before they are laid out. What comes this far is replaced without
a change of width.
"""

from __future__ import annotations

import re

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from sf_tui.printable import UNPRINTABLE

_FORBIDDEN = re.compile(f"[\\t\\n]|{UNPRINTABLE.pattern}")


class PrintableFilter(LineFilter):
    """Replaces control signs in every strip of every widget, and takes links away."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments with the same widths and nothing that steers a terminal."""
        del background
        return [
            Segment(_FORBIDDEN.sub(_same_width, text), _unlinked(style), control)
            for text, style, control in segments
        ]


def _same_width(found: re.Match[str]) -> str:
    return "�" * cell_len(found[0])


def _unlinked(style: Style | None) -> Style | None:
    return style.update_link(None) if style is not None and style.link else style
