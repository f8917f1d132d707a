"""A line chart in text: curves, the danger window as a band, marks, a cursor and two axes.

Each column shows the lowest and the highest value that fall into it, so that a one-step dip stays
visible at any zoom. Knows series and cells; knows nothing of events or widgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sf_tui.tui.axes import Scale
from sf_tui.tui.lines import Line
from sf_tui.tui.series import MinMaxSeries
from sf_tui.tui.theme import Glyphs

_BRAILLE = 0x2800
# Dot numbering of the braille block: columns of two, rows of four, the last row added later.
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


class Canvas:
    """A grid of cells to draw lines into.

    Dots count from the upper left. A character written into a cell covers its dots; the role drawn
    last applies to the whole cell.

    Attributes:
        width: cells.
        height: cells.
        dots_x: dots across a cell.
        dots_y: dots down a cell.
    """

    def __init__(self, width: int, height: int, *, braille: bool, dot: str = ".") -> None:
        self.width = max(width, 0)
        self.height = max(height, 0)
        self.braille = braille
        self.dots_x, self.dots_y = (2, 4) if braille else (1, 1)
        self._dot = dot
        count = self.width * self.height
        self._bits = [0] * count
        self._roles = [""] * count
        self._signs = [""] * count
        self._on_band = [False] * count

    def dot(self, x: int, y: int, role: str) -> None:
        """Set one dot; dots outside the canvas are ignored."""
        column, row = x // self.dots_x, y // self.dots_y
        if not (0 <= column < self.width and 0 <= row < self.height):
            return
        cell = row * self.width + column
        self._bits[cell] |= _BITS[y % 4][x % 2] if self.braille else 1
        self._roles[cell] = role

    def span(self, x: int, top: int, bottom: int, role: str) -> None:
        """Set the dots of one column from `top` down to `bottom`."""
        for y in range(top, bottom + 1):
            self.dot(x, y, role)

    def line(self, x0: int, y0: int, x1: int, y1: int, role: str) -> None:
        """Set the dots of a straight line (Bresenham)."""
        dx, dy = abs(x1 - x0), -abs(y1 - y0)
        step_x, step_y = (1 if x0 < x1 else -1), (1 if y0 < y1 else -1)
        error = dx + dy
        while True:
            self.dot(x0, y0, role)
            if x0 == x1 and y0 == y1:
                return
            doubled = 2 * error
            if doubled >= dy:
                error += dy
                x0 += step_x
            if doubled <= dx:
                error += dx
                y0 += step_y

    def write(self, column: int, row: int, text: str, role: str) -> None:
        """Write one character per cell; characters outside the canvas are dropped."""
        if not 0 <= row < self.height:
            return
        for index, sign in enumerate(text):
            if 0 <= column + index < self.width:
                cell = row * self.width + column + index
                self._signs[cell] = sign
                self._roles[cell] = role

    def is_free(self, column: int, row: int, length: int) -> bool:
        """Return whether `length` cells from `column` on are inside and hold no character."""
        if not 0 <= row < self.height or column < 0 or column + length > self.width:
            return False
        start = row * self.width + column
        return not any(self._signs[start : start + length])

    def is_clear(self, column: int, row: int, length: int) -> bool:
        """Return whether `length` cells from `column` on are inside and empty."""
        start = row * self.width + column
        return self.is_free(column, row, length) and not any(self._bits[start : start + length])

    def is_empty(self, column: int, row: int) -> bool:
        """Return whether a cell is empty."""
        return self.is_clear(column, row, 1)

    def paint(self, column: int, row: int, role: str) -> None:
        """Change a cell's role and keep its content."""
        if 0 <= row < self.height and 0 <= column < self.width:
            self._roles[row * self.width + column] = role

    def overlay(self, other: Canvas) -> None:
        """Draw another canvas of the same size over this one; its empty cells are transparent."""
        for cell in range(self.width * self.height):
            if other._bits[cell] or other._signs[cell]:
                self._bits[cell] = other._bits[cell]
                self._signs[cell] = other._signs[cell]
                self._roles[cell] = other._roles[cell]

    def band(self, first: int, last: int) -> None:
        """Put the columns from `first` to `last` on the danger window's background."""
        for row in range(self.height):
            for column in range(max(first, 0), min(last, self.width - 1) + 1):
                self._on_band[row * self.width + column] = True

    def row(self, row: int) -> Line:
        """Return one row of cells as a line."""
        line: Line = []
        run, run_role = "", ""
        start = row * self.width
        for cell in range(start, start + self.width):
            sign = self._signs[cell]
            role = self._roles[cell]
            if not sign:
                bits = self._bits[cell]
                if not bits:
                    sign, role = " ", "text"
                elif self.braille:
                    sign = chr(_BRAILLE + bits)
                else:
                    sign = self._dot
            if self._on_band[cell] and role != "cursor":
                role += "+band"
            if role == run_role:
                run += sign
            else:
                if run:
                    line.append((run, run_role))
                run, run_role = sign, role
        if run:
            line.append((run, run_role))
        return line


GUTTER = 6
"""Cells of the left axis: a four-cell number, a blank, the axis."""
RIGHT_GUTTER = 6
MARKER_EVERY = 16
"""Cells between two markers of a curve; markers distinguish curves without color."""


@dataclass(frozen=True)
class Curve:
    """One curve.

    Attributes:
        role: its paint.
        marker: character drawn on it at intervals; empty for none.
        parts: series, each with the global step of its step 0.
        scale: its y axis.
    """

    role: str
    marker: str
    parts: Sequence[tuple[int, MinMaxSeries]]
    scale: Scale


@dataclass(frozen=True)
class Mark:
    """A marked step.

    Attributes:
        x: global step.
        label: name in the plot; empty for a character on the axis only.
        role: its paint.
        sign: character on the axis.
    """

    x: int
    label: str
    role: str
    sign: str


@dataclass(frozen=True)
class Chart:
    """What a chart shows.

    Attributes:
        start: first global step.
        end: last global step, above `start`.
        curves: drawn in this order, the last one on top.
        y_ticks: share of the height (0 at the bottom) and its label.
        right_ticks: the same for an axis on the right; empty for none.
        x_ticks: global step and its label.
        bands: danger windows as (first, last) global steps.
        walls: global steps at which later stages begin.
        marks: marked steps.
        cursor: global step of the replay cursor, or None.
    """

    start: int
    end: int
    curves: Sequence[Curve]
    y_ticks: Sequence[tuple[float, str]]
    x_ticks: Sequence[tuple[int, str]]
    right_ticks: Sequence[tuple[float, str]] = ()
    bands: Sequence[tuple[int, int]] = ()
    walls: Sequence[int] = ()
    marks: Sequence[Mark] = field(default_factory=list)
    cursor: int | None = None


def plot_width(width: int, right_axis: bool) -> int:
    """Return the number of cells between the axes of a chart `width` cells wide."""
    return max(width - GUTTER - (RIGHT_GUTTER if right_axis else 1), 1)


def draw_chart(chart: Chart, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """Return the chart as `height` lines; the last two are the step axis and its numbers."""
    rows = max(height - 2, 1)
    columns = plot_width(width, bool(chart.right_ticks))
    canvas = Canvas(columns, rows, braille=glyphs.braille)
    for first, last in chart.bands:
        _draw_band(canvas, chart, first, last, glyphs)
    for wall in chart.walls:
        _draw_vertical(canvas, _column(chart, wall, columns), glyphs.dotted, "faint")
    for mark in chart.marks:
        if mark.label:
            _draw_vertical(canvas, _column(chart, mark.x, columns), glyphs.dotted, mark.role)
    curves = Canvas(columns, rows, braille=glyphs.braille)
    signs = [
        sign
        for index, curve in enumerate(chart.curves)
        for sign in _draw_curve(curves, chart, curve, index)
    ]
    # Markers go on top of all lines and keep their own color.
    for column, row, marker, role in signs:
        curves.write(column, row, marker, role)
    canvas.overlay(curves)
    _label_marks(canvas, chart, columns)
    if chart.cursor is not None and chart.start <= chart.cursor <= chart.end:
        _draw_vertical(canvas, _column(chart, chart.cursor, columns), glyphs.wall, "cursor")
    lines = _with_y_axes(canvas, chart, glyphs)
    lines.append(_step_axis(chart, columns, width, glyphs))
    lines.append(_step_numbers(chart, columns, width))
    return lines[:height]


def _column(chart: Chart, x: int, columns: int) -> int:
    span = max(chart.end - chart.start, 1)
    return round((x - chart.start) / span * (columns - 1))


def _draw_curve(
    canvas: Canvas, chart: Chart, curve: Curve, index: int
) -> list[tuple[int, int, str, str]]:
    """Draw a curve and return its markers as (column, row, sign, role)."""
    dots_wide = canvas.width * canvas.dots_x - 1
    dots_high = canvas.height * canvas.dots_y - 1
    span = max(chart.end - chart.start, 1)
    every = MARKER_EVERY if canvas.braille else MARKER_EVERY // 2
    # Staggered by curve: markers of coinciding curves must not cover each other.
    next_marker = 3 + index * every // max(len(chart.curves), 1)
    markers: list[tuple[int, int]] = []
    last_cell: tuple[int, int] | None = None
    for offset, series in curve.parts:
        before: tuple[int, int] | None = None
        for bucket in series.buckets(chart.start - offset, chart.end - offset):
            x = round((bucket.x + offset - chart.start) / span * dots_wide)
            low, high, first, last = (
                round((1 - curve.scale.share(value)) * dots_high)
                for value in (bucket.low, bucket.high, bucket.first, bucket.last)
            )
            if before is not None:
                canvas.line(*before, x, first, curve.role)
            canvas.span(x, high, low, curve.role)
            before = (x, last)
            last_cell = (x // canvas.dots_x, last // canvas.dots_y)
            if last_cell[0] >= next_marker:
                markers.append(last_cell)
                next_marker = last_cell[0] + every
    if not curve.marker or last_cell is None:
        return []
    kept = [cell for cell in markers if last_cell[0] - cell[0] >= 3]
    return [(column, row, curve.marker, curve.role) for column, row in (*kept, last_cell)]


def _draw_band(canvas: Canvas, chart: Chart, first: int, last: int, glyphs: Glyphs) -> None:
    if last < chart.start or first > chart.end:
        return
    left = max(_column(chart, first, canvas.width), 0)
    right = min(_column(chart, last, canvas.width), canvas.width - 1)
    canvas.band(left, right)
    if last <= chart.end:
        _draw_vertical(canvas, right, glyphs.dotted, "danger")
    for label in ("danger window", "danger"):
        if canvas.is_free(left, canvas.height - 1, len(label) + 1) and right - left > len(label):
            canvas.write(left + 1, canvas.height - 1, label, "danger")
            return


def _draw_vertical(canvas: Canvas, column: int, sign: str, role: str) -> None:
    for row in range(canvas.height):
        if canvas.is_empty(column, row):
            canvas.write(column, row, sign, role)
        elif role == "cursor":
            canvas.paint(column, row, role)


def _label_marks(canvas: Canvas, chart: Chart, columns: int) -> None:
    """Write each mark's label beside its line, in the topmost row with room."""
    for mark in chart.marks:
        if not mark.label:
            continue
        column = _column(chart, mark.x, columns)
        for row in range(canvas.height):
            places = (column + 1, column - len(mark.label))
            free = next(
                (place for place in places if canvas.is_clear(place, row, len(mark.label))), None
            )
            if free is not None:
                canvas.write(free, row, mark.label, mark.role)
                break


def _with_y_axes(canvas: Canvas, chart: Chart, glyphs: Glyphs) -> list[Line]:
    left = _labels_by_row(chart.y_ticks, canvas.height)
    right = _labels_by_row(chart.right_ticks, canvas.height)
    lines: list[Line] = []
    for row in range(canvas.height):
        number = left.get(row, "")
        wall = glyphs.tick if number else glyphs.wall
        line: Line = [(f"{number[:4]:>4} ", "muted"), (wall, "faint"), *canvas.row(row)]
        if chart.right_ticks:
            other = right.get(row, "")
            line += [(glyphs.wall, "faint"), (f" {other[:4]:<4}", "muted")]
        else:
            line.append((" ", "text"))
        lines.append(line)
    return lines


def _labels_by_row(axis_ticks: Sequence[tuple[float, str]], height: int) -> dict[int, str]:
    return {round((1 - share) * (height - 1)): label for share, label in axis_ticks}


def _step_axis(chart: Chart, columns: int, width: int, glyphs: Glyphs) -> Line:
    signs: list[tuple[str, str]] = [(glyphs.rule, "faint")] * columns
    for x, _ in chart.x_ticks:
        column = _column(chart, x, columns)
        if 0 <= column < columns:
            signs[column] = (glyphs.tee, "faint")
    for mark in chart.marks:
        column = _column(chart, mark.x, columns)
        if 0 <= column < columns:
            signs[column] = (mark.sign, mark.role)
    line: Line = [(" " * (GUTTER - 1), "text"), (glyphs.corner, "faint"), *signs]
    line.append((" " * (width - GUTTER - columns), "text"))
    return line


def _step_numbers(chart: Chart, columns: int, width: int) -> Line:
    text = [" "] * (width - GUTTER + 1)
    reach = -2
    placed: list[tuple[int, str]] = []
    for x, label in chart.x_ticks:
        column = _column(chart, x, columns)
        # The text starts one cell left of the plot. Stage names start at their wall.
        start = column + 1 - (0 if label[:1].isalpha() else len(label) // 2)
        start = min(max(start, 0), len(text) - len(label))
        if start > reach + 1:
            placed.append((start, label))
            reach = start + len(label) - 1
    for start, label in placed:
        if start >= 0:
            text[start : start + len(label)] = label
    return [(" " * (GUTTER - 1), "text"), ("".join(text), "muted")]


def share_ticks(height: int) -> list[tuple[float, str]]:
    """Return the ticks of an axis from 0 to 1 for a plot `height` cells high."""
    shares = (0.0, 0.25, 0.5, 0.75, 1.0) if height >= 9 else (0.0, 0.5, 1.0)
    return [(share, f"{share:.2f}" if height >= 9 else f"{share:.1f}") for share in shares]
