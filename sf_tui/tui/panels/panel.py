"""The base of all panels: painted lines, of which only changed cells are sent; no control signs.

Panels make their text printable before layout. A line filter then replaces any control sign left in
a strip, keeping its width. Knows lines and widgets; knows nothing of what a panel shows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Self

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.color import Color
from textual.filter import LineFilter
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from sf_tui.printable import UNPRINTABLE, printable
from sf_tui.tui.lines import Line, Piece, changed_span, fit, line_width
from sf_tui.tui.view_state import ViewState

WHEEL_ROWS = 3
"""Rows that one notch of the mouse wheel moves a list."""
_FORBIDDEN = re.compile(f"[\\t\\n]|{UNPRINTABLE.pattern}")


class Panel(Widget):
    """A rectangle of lines; an update sends only the cells that changed.

    Attributes:
        view: the state to show.
    """

    TITLE: ClassVar[str] = ""
    """Text of the title line; empty for a panel without one."""
    HELP: ClassVar[str] = ""
    """What the panel shows, for its help."""
    SIGNS: ClassVar[Sequence[tuple[str, str]]] = ()
    """The panel's signs and words, each with its meaning, for its help."""
    IS_CHART: ClassVar[bool] = False
    """Whether it is updated at the slower rate of charts."""

    can_focus = False

    class KeyClicked(Message):
        """A key that the panel names was clicked, which is as good as pressing it.

        Attributes:
            key: as the panel spells it.
        """

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, view: ViewState, *, id: str | None = None, classes: str = "") -> None:
        super().__init__(id=id, classes=f"panel {classes}".strip())
        self.view = view
        self._lines: list[Line] = []
        self._strips: dict[int, Strip] = {}
        self._composed_for = Size(0, 0)

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the body: at most `height` lines of any width."""
        raise NotImplementedError

    def title(self) -> str:
        """Return the text of the title line."""
        return self.TITLE

    def title_right(self) -> Sequence[Piece]:
        """Return the right end of the title line."""
        return ()

    def update(self) -> None:
        """Compose the panel again and send the cells that changed."""
        width, height = self.size
        if not width or not height:
            return
        lines = self._fitted_lines(width, height)
        if len(lines) != len(self._lines):
            self._lines = lines
            self._strips.clear()
            self.refresh()
            return
        regions = []
        for y, (before, after) in enumerate(zip(self._lines, lines, strict=True)):
            span = changed_span(before, after)
            if span is not None:
                regions.append(Region(span[0], y, span[1] - span[0], 1))
                self._strips.pop(y, None)
        self._lines = lines
        if regions:
            self.refresh(*regions)

    def repaint(self) -> None:
        """Compose the panel again and send all of it, after a change of theme or size."""
        self._lines = []
        self._strips.clear()
        self.update()
        self.refresh()

    def on_resize(self) -> None:
        """Compose for the new size."""
        self.repaint()

    def on_click(self, event: events.Click) -> None:
        """Press the key that stands at the mouse pointer, or what the panel has there."""
        line = self._lines[event.y] if event.y < len(self._lines) else []
        key = key_at(line, event.x)
        if key:
            event.stop()
            self.post_message(self.KeyClicked(key))
        else:
            self.click(event.x, event.y - (1 if self.TITLE else 0))

    def click(self, x: int, row: int) -> None:
        """React to a click that hit no key.

        Args:
            x: the column.
            row: the row below the title; -1 is the title.
        """

    def on_focus(self, event: events.Focus) -> None:
        """Mark the title: `z` zooms this panel."""
        del event
        self.update()

    def on_blur(self, event: events.Blur) -> None:
        """Remove the mark."""
        del event
        self.update()

    def blur(self) -> Self:
        """Give up the focus to no other panel.

        Textual would choose the next one, also when a layout hides this one for a moment; the
        console chooses again where no panel is chosen.
        """
        if self.screen.focused is self:
            self.screen.set_focus(None)
        return self

    def render_line(self, y: int) -> Strip:
        """Return one line for the compositor."""
        if self._composed_for != self.size:
            # Painted before the resize event arrives: a blank panel would be sent, and then again.
            self._strips.clear()
            self._lines = self._fitted_lines(*self.size)
        strip = self._strips.get(y)
        if strip is None:
            style = self.view.paint.style
            line = self._lines[y] if y < len(self._lines) else []
            segments = [Segment(text, style(role)) for text, role in line if text]
            strip = Strip(segments).adjust_cell_length(self.size.width, style("text"))
            self._strips[y] = strip
        return strip

    def _fitted_lines(self, width: int, height: int) -> list[Line]:
        self._composed_for = Size(width, height)
        body_height = height - (1 if self.TITLE else 0)
        spell = self.view.glyphs.spell
        ellipsis = self.view.glyphs.ellipsis
        body = self.compose_lines(width, body_height)[:body_height] if body_height > 0 else []
        lines = [self._title_line(width)] if self.TITLE else []
        lines += body
        lines += [[] for _ in range(height - len(lines))]
        lines = [
            [(printable(text, multiline=False), role) for text, role in line] for line in lines
        ]
        if not self.view.glyphs.braille:
            lines = [[(spell(text), role) for text, role in line] for line in lines]
        return [fit(line, width, ellipsis) for line in lines]

    def _title_line(self, width: int) -> Line:
        rule = self.view.glyphs.rule
        chosen = f"{self.view.glyphs.pointer} " if self.has_focus else ""
        title = (f"{chosen}{self.title()} ", "focus" if self.has_focus else "title")
        right = list(self.title_right())
        free = width - line_width([title]) - line_width(right) - (2 if right else 0)
        if free < 0 or not right:
            return [title, (rule * (width - line_width([title])), "rule")]
        return [title, (rule * free, "rule"), (" ", "text"), *right, (" ", "text")]


def key_at(line: Sequence[Piece], x: int) -> str:
    """Return the key that a line names at a column, by itself or before its meaning; else ""."""
    key, at = "", 0
    for text, role in line:
        if role == "key":
            key = text.strip()
        elif key and (text.startswith("  ") or role not in {"text", "muted"}):
            # A gap, or the next part of the line.
            key = ""
        at += cell_len(text)
        if x < at:
            return key
    return ""


class PrintableFilter(LineFilter):
    """Replaces control characters in every strip of every widget, and removes links."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments with equal widths and without control characters."""
        del background
        return [
            Segment(_FORBIDDEN.sub(_same_width, text), _unlinked(style), control)
            for text, style, control in segments
        ]


def _same_width(found: re.Match[str]) -> str:
    return "�" * cell_len(found[0])


def _unlinked(style: Style | None) -> Style | None:
    return style.update_link(None) if style is not None and style.link else style
