"""What the terminal shows, cell by cell, so that only differing cells are sent.

Textual sends the whole screen whenever a dialog opens or closes and whole strips when one cell of
them changes. Here every update is compared with what was sent before, and the differing cells are
encoded shortly: a color is sent where it changes, not at each piece of text, and blank ends of
lines are erased. Knows strips and escape sequences; knows nothing of panels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate

Cell = tuple[str, Style]
"""A sign and its style; the second cell of a wide sign has an empty text."""

_GAP = 5
"""Equal cells between two differing ones that are sent again: moving the cursor costs as much."""
_RESIZED_S = 0.1
"""Time after a resize in which a new size has sent the whole screen anyway."""
_PLAIN = Style()
_BLANK: Cell = (" ", _PLAIN)
_ATTRIBUTES = (
    ("1", "bold"),
    ("2", "dim"),
    ("3", "italic"),
    ("4", "underline"),
    ("7", "reverse"),
    ("9", "strike"),
)


_SHOWN_ON_BLANKS = frozenset("479")
"""Codes of the attributes that show on a blank: underline, reverse, strike."""


@dataclass(frozen=True)
class RowChange:
    """A row as the terminal shows it and as it should be."""

    y: int
    before: list[Cell | None]
    after: list[Cell | None]

    def spans(self) -> Iterator[tuple[int, list[Cell]]]:
        """Yield the column and the cells of each span that has to be sent."""
        places = [x for x, cell in enumerate(self.after) if cell != self.before[x]]
        for x, end in _close_ranges(places):
            start, stop = _whole_signs(self.after, x, end)
            yield start, [cell or _BLANK for cell in self.after[start:stop]]

    def erased(self) -> tuple[int, RowChange]:
        """Return the first differing column, and the change that is left once all cells from there
        to the row's end are erased.
        """
        first = next(x for x, cell in enumerate(self.after) if cell != self.before[x])
        first, _ = _whole_signs(self.after, first, first)
        known = self.before[:first] + [_BLANK] * (len(self.before) - first)
        return first, RowChange(self.y, known, self.after)


def _close_ranges(places: list[int]) -> Iterator[tuple[int, int]]:
    """Yield half-open ranges of places, joined over gaps that are cheaper to send again."""
    if not places:
        return
    start = end = places[0]
    for at in places:
        if at - end > _GAP:
            yield start, end + 1
            start = at
        end = at
    yield start, end + 1


class SentCells:
    """The cells as the terminal shows them; unknown ones are sent whatever they are."""

    def __init__(self) -> None:
        self._rows: list[list[Cell | None]] = []

    def forget(self) -> None:
        """Send every cell with the next whole update."""
        self._rows = []

    @property
    def is_unknown(self) -> bool:
        """Whether nothing was sent yet, or all was forgotten."""
        return not self._rows

    def fits(self, update: LayoutUpdate) -> bool:
        """Return whether the screen still has an update's size; else the terminal was resized."""
        width, height = update.region.size
        return [len(row) for row in self._rows] == [width] * height

    def changes(
        self, update: LayoutUpdate | ChopsUpdate, *, blank: Cell | None
    ) -> Iterator[RowChange]:
        """Record an update as sent and yield the rows that differ, from top to bottom.

        Args:
            update: the compositor's.
            blank: the cells of an unknown screen, if it is cleared before the rows are sent.
        """
        if isinstance(update, LayoutUpdate) and self.is_unknown:
            width, height = update.region.size
            self._rows = [[blank] * width for _ in range(height)]
        before: dict[int, list[Cell | None]] = {}
        for y, x, cells in _cells_of(update):
            if y < len(self._rows):
                before.setdefault(y, list(self._rows[y]))
                row = self._rows[y]
                row[x : x + len(cells)] = cells[: len(row) - x]
        for y in sorted(before):
            if before[y] != self._rows[y]:
                yield RowChange(y, before[y], self._rows[y])


def _whole_signs(row: list[Cell | None], start: int, end: int) -> tuple[int, int]:
    """Return a range extended to whole wide signs."""

    def is_second_half(at: int) -> bool:
        cell = row[at] if at < len(row) else None
        return cell is not None and cell[0] == ""

    while start > 0 and is_second_half(start):
        start -= 1
    while is_second_half(end):
        end += 1
    return start, end


def _cells_of(update: LayoutUpdate | ChopsUpdate) -> Iterator[tuple[int, int, list[Cell]]]:
    """Yield row, column and cells of each piece of an update."""
    if isinstance(update, LayoutUpdate):
        for y, strips in enumerate(update.strips, update.region.y):
            yield y, update.region.x, [cell for strip in strips for cell in _cells(strip)]
        return
    for y, x1, x2 in update.spans:
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is not None and x < x2 and end > x1:
                yield y, x, _cells(strip)[: end - x]


def _cells(strip: Iterable[Segment]) -> list[Cell]:
    cells: list[Cell] = []
    for text, style, control in strip:
        if control:
            continue
        painted = style or _PLAIN
        if cell_len(text) == len(text):
            blank = _blank_style(painted)
            cells += [(sign, blank if sign == " " else painted) for sign in text]
            continue
        for sign in text:
            size = cell_len(sign)
            if size == 0 and cells:
                # A combining sign belongs to the cell before it.
                cells[-1] = (cells[-1][0] + sign, cells[-1][1])
            else:
                cells += [(sign, painted), *[("", painted)] * (size - 1)]
    return cells


@lru_cache(maxsize=1024)
def _blank_style(style: Style) -> Style:
    """Return what can be seen of a style on a blank: its background, unless a line shows."""
    if style.reverse or style.underline or style.strike:
        return style
    if style.bgcolor is None or style.bgcolor.is_default:
        return _PLAIN
    return Style(bgcolor=style.bgcolor)


class ChangedCells(CompositorUpdate):
    """An update that sends the cells in which another one differs from the screen.

    Args:
        update: the compositor's update.
        sent: the screen so far; changed when this is rendered, which only happens if it is sent.
        clears: clear an unknown screen first; its blanks then need not be sent.
    """

    def __init__(
        self, update: LayoutUpdate | ChopsUpdate, sent: SentCells, *, clears: bool
    ) -> None:
        self._update = update
        self._sent = sent
        self._clears = clears

    def render_segments(self, console: Console) -> str:
        """Return the escape sequences and texts that bring the terminal up to date."""
        if self._sent.is_unknown and isinstance(self._update, ChopsUpdate):
            return self._update.render_segments(console)
        begin = ""
        blank: Cell | None = None
        if isinstance(self._update, LayoutUpdate) and not self._sent.fits(self._update):
            self._sent.forget()
        if self._clears and self._sent.is_unknown:
            begin, blank = "\x1b[m\x1b[2J", _BLANK
        rows = self._sent.changes(self._update, blank=blank)
        return begin + _encode_rows(rows, _color_system(console))


def _move(y: int, x: int) -> str:
    return f"\x1b[{y + 1};{x + 1}H" if x else f"\x1b[{y + 1}H"


def _color_system(console: Console) -> ColorSystem:
    system = console._color_system
    return ColorSystem.EIGHT_BIT if system is None else system


def _encode_rows(rows: Iterable[RowChange], system: ColorSystem) -> str:
    """Return the shorter of two ways for each row: its differing cells, or erase and rewrite."""
    parts, above = [], -2
    for row in rows:
        changed = next(row.spans())[0]
        first, left = row.erased()
        ways = (
            _move_down(above, row.y, changed) + _encode(row, system, changed),
            f"{_move_down(above, row.y, first)}\x1b[K{_encode(left, system, first)}",
        )
        parts.append(min(ways, key=lambda text: len(text.encode())))
        above = row.y
    return "".join(parts)


def _move_down(above: int, y: int, x: int) -> str:
    """Return the move to a cell from somewhere in row `above`."""
    if y != above + 1:
        return _move(y, x)
    below = f"\r\n\x1b[{x}C" if x else "\r\n"
    return min(_move(y, x), below, key=len)


def _encode(row: RowChange, system: ColorSystem, at: int) -> str:
    """Return a row's spans with each color sent once; the pen is plain before and after.

    Args:
        row: the row.
        system: the terminal's colors.
        at: the cursor's column, in this row.
    """
    parts: list[str] = []
    pen = _NO_PEN
    for x, cells in row.spans():
        if x > at:
            parts.append(f"\x1b[{x - at}C")
        at = x + len(cells)
        for style, same in groupby(cells, key=lambda cell: cell[1]):
            wanted = _pen(style, system)
            texts = [text for text, _ in same]
            if not (_is_blank(texts) and _suits_blanks(pen, wanted)):
                parts.append(_switch(pen, wanted))
                pen = wanted
            parts.extend(texts)
    parts.append(_switch(pen, _NO_PEN))
    return "".join(parts)


Pen = tuple[frozenset[str], str, str]
"""Attribute codes, foreground code, background code; empty for the terminal's own."""
_NO_PEN: Pen = (frozenset(), "", "")


def _is_blank(texts: list[str]) -> bool:
    return all(text == " " for text in texts)


def _suits_blanks(pen: Pen, wanted: Pen) -> bool:
    """Return whether blanks look the same with both pens."""
    return pen[2] == wanted[2] and not (pen[0] ^ wanted[0]) & _SHOWN_ON_BLANKS


@lru_cache(maxsize=1024)
def _pen(style: Style, system: ColorSystem) -> Pen:
    attributes = frozenset(code for code, name in _ATTRIBUTES if getattr(style, name))
    front = style.color.downgrade(system).get_ansi_codes() if style.color else ()
    back = style.bgcolor.downgrade(system).get_ansi_codes(foreground=False) if style.bgcolor else ()
    # 39 and 49 are the terminal's own colors.
    return (
        attributes,
        "" if front == ("39",) else ";".join(front),
        "" if back == ("49",) else ";".join(back),
    )


@lru_cache(maxsize=4096)
def _switch(before: Pen, after: Pen) -> str:
    """Return the shortest sequence that changes the pen; empty if it stays."""
    if before == after:
        return ""
    if after == _NO_PEN:
        return "\x1b[m"
    if before[0] <= after[0]:
        codes = sorted(after[0] - before[0])
        if before[1] != after[1]:
            codes.append(after[1] or "39")
        if before[2] != after[2]:
            codes.append(after[2] or "49")
    else:
        codes = ["", *sorted(after[0]), *filter(None, after[1:])]
    return f"\x1b[{';'.join(codes)}m"


class SendsChangedCells:
    """Mixed into a Textual application: sends changed cells only."""

    _sent: SentCells
    _clears = False
    """Whether a cleared screen looks like the application's own background."""

    def send_changed_cells(self, *, clears: bool) -> None:
        """Start with an unknown screen.

        Args:
            clears: the application leaves its background to the terminal.
        """
        self._sent, self._clears = SentCells(), clears

    def on_resize(self, event: events.Resize) -> None:
        """Send the whole screen after every resize, even back to the size that it had.

        A terminal that shrank for a moment has lost cells, and Textual ignores an equal size.
        """
        del event
        self._sent.forget()
        self.set_timer(_RESIZED_S, self._send_unknown)  # type: ignore[attr-defined]

    def _send_unknown(self) -> None:
        # The timer may fire while the application closes.
        if self._sent.is_unknown and self.screen_stack:  # type: ignore[attr-defined]
            self.screen.refresh()  # type: ignore[attr-defined]

    def redraw(self) -> None:
        """Send the whole screen again: another program may have written over it."""
        self._sent.forget()
        self.screen.refresh()  # type: ignore[attr-defined]

    def _display(self, screen: object, renderable: object) -> None:
        """Send what differs from the screen, in place of a whole update of Textual's."""
        if isinstance(renderable, LayoutUpdate | ChopsUpdate):
            renderable = ChangedCells(renderable, self._sent, clears=self._clears)
        super()._display(screen, renderable)  # type: ignore[misc]
