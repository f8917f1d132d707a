"""A line chart in text: curves, the danger window as a band, marks, a cursor and two axes.

Each column shows the lowest and the highest value that fall into it, so that a one-step dip stays
visible at any zoom. Knows series and cells; knows nothing of events or widgets.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from sf_tui.tui.axes import Scale
from sf_tui.tui.canvas import Canvas
from sf_tui.tui.lines import Line
from sf_tui.tui.series import Bucket, MinMaxSeries
from sf_tui.tui.theme import Glyphs

GUTTER = 6
"""Cells of the left axis: a four-cell number, a blank, the axis."""
RIGHT_GUTTER = 6
"""Cells of the right axis, also where there is none: charts above each other share their steps."""
_LEAST_WITH_RIGHT_AXIS = 30
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
        breaks: global steps behind which the curve is interrupted: the points on either side are
            not joined.
    """

    role: str
    marker: str
    parts: Sequence[tuple[int, MinMaxSeries]]
    scale: Scale
    breaks: Sequence[int] = ()


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


def plot_width(width: int) -> int:
    """Return the number of cells between the axes of a chart `width` cells wide."""
    return max(width - GUTTER - right_gutter(width), 1)


def right_gutter(width: int) -> int:
    """Return the cells right of the plot of a chart `width` cells wide."""
    return RIGHT_GUTTER if width >= _LEAST_WITH_RIGHT_AXIS else 1


def column_of(x: int, start: int, end: int, columns: int) -> int:
    """Return the column of a step in a plot from `start` to `end`."""
    return round((x - start) / max(end - start, 1) * (columns - 1))


def step_at(column: int, start: int, end: int, columns: int) -> int:
    """Return the step at a column of a plot, which `column_of` maps back to it."""
    share = min(max(column / max(columns - 1, 1), 0.0), 1.0)
    return start + round(share * (end - start))


def draw_chart(chart: Chart, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """Return the chart as `height` lines; the last two are the step axis and its numbers."""
    rows = max(height - 2, 1)
    columns = plot_width(width)
    # Rows that would make the ticks uneven stay free at the top.
    free = rows - even_rows([share for share, _ in (*chart.y_ticks, *chart.right_ticks)], rows)
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
        for sign in _draw_curve(curves, chart, curve, index, glyphs, free)
    ]
    # Markers go on top of all lines and keep their own color.
    for column, row, marker, role in signs:
        curves.write(column, row, marker, role)
    canvas.overlay(curves)
    for first, last in chart.bands:
        _label_band(canvas, chart, first, last)
    _label_marks(canvas, chart, columns)
    if chart.cursor is not None and chart.start <= chart.cursor <= chart.end:
        _draw_vertical(canvas, _column(chart, chart.cursor, columns), glyphs.wall, "cursor")
    lines = _with_y_axes(canvas, chart, glyphs, free, right_gutter(width))
    lines.append(_step_axis(chart, columns, width, glyphs))
    lines.append(_step_numbers(chart, columns, width))
    return lines[:height]


def even_rows(shares: Sequence[float], rows: int) -> int:
    """Return how many of some rows to draw on so that ticks at these shares are evenly spaced.

    At most two rows are given up; if that is not enough, none is.
    """
    fitting = (used for used in range(rows, max(rows - 3, 1), -1) if _is_even(shares, used))
    return next(fitting, rows)


def _is_even(shares: Sequence[float], rows: int) -> bool:
    places = [share * (rows - 1) for share in shares]
    return all(abs(place - round(place)) < 1e-6 for place in places)


def _column(chart: Chart, x: int, columns: int) -> int:
    return column_of(x, chart.start, chart.end, columns)


def _draw_curve(
    canvas: Canvas, chart: Chart, curve: Curve, index: int, glyphs: Glyphs, free: int
) -> list[tuple[int, int, str, str]]:
    """Draw a curve and return its markers as (column, row, sign, role).

    A value below a logarithmic axis has a mark on the lowest row; zeros have no line.
    """
    dots_wide = canvas.width * canvas.dots_x - 1
    top = free * canvas.dots_y
    dots_high = (canvas.height - free) * canvas.dots_y - 1
    span = max(chart.end - chart.start, 1)
    every = MARKER_EVERY if canvas.braille else MARKER_EVERY // 2
    # Staggered by curve: markers of coinciding curves must not cover each other.
    next_marker = 3 + index * every // max(len(chart.curves), 1)
    markers: list[tuple[int, int]] = []
    below: list[tuple[int, int]] = []
    last_cell: tuple[int, int] | None = None
    breaks = sorted(curve.breaks)
    for offset, series in curve.parts:
        before: tuple[int, int] | None = None
        before_step = 0
        for bucket in series.buckets(chart.start - offset, chart.end - offset):
            step = bucket.x + offset
            x = round((step - chart.start) / span * dots_wide)
            if curve.scale.is_below(bucket.low):
                below.append((x // canvas.dots_x, canvas.height - 1))
                if bucket.high <= 0:
                    before = None
                    continue
            low, high, first, last = (
                top + round((1 - curve.scale.share(value)) * dots_high)
                for value in _drawn_values(bucket, curve.scale)
            )
            joined = bisect_left(breaks, before_step) == bisect_left(breaks, step)
            if before is not None and joined:
                canvas.line(*before, x, first, curve.role)
            canvas.span(x, high, low, curve.role)
            before, before_step = (x, last), step
            last_cell = (x // canvas.dots_x, last // canvas.dots_y)
            if last_cell[0] >= next_marker:
                markers.append(last_cell)
                next_marker = last_cell[0] + every
    signs = [(column, row, glyphs.below, curve.role) for column, row in below]
    if not curve.marker or last_cell is None:
        return signs
    kept = [cell for cell in markers if last_cell[0] - cell[0] >= 3]
    return signs + [(column, row, curve.marker, curve.role) for column, row in (*kept, last_cell)]


def _drawn_values(bucket: Bucket, scale: Scale) -> tuple[float, float, float, float]:
    """Return lowest, highest, first and last value; on a logarithmic axis without zeros."""
    if not scale.log or bucket.low > 0:
        return bucket.low, bucket.high, bucket.first, bucket.last
    first, last = (value if value > 0 else bucket.positive for value in (bucket.first, bucket.last))
    return bucket.positive, bucket.high, first, last


def _draw_band(canvas: Canvas, chart: Chart, first: int, last: int, glyphs: Glyphs) -> None:
    if last < chart.start or first > chart.end:
        return
    left = max(_column(chart, first, canvas.width), 0)
    right = min(_column(chart, last, canvas.width), canvas.width - 1)
    canvas.band(left, right)
    if last <= chart.end:
        _draw_vertical(canvas, right, glyphs.dotted, "danger")


def _label_band(canvas: Canvas, chart: Chart, first: int, last: int) -> None:
    """Write a danger window's label at the lowest and leftmost place in it that is clear."""
    if last < chart.start or first > chart.end:
        return
    left = max(_column(chart, first, canvas.width), 0)
    right = min(_column(chart, last, canvas.width), canvas.width - 1)
    for label in ("danger window", "danger"):
        for row in range(canvas.height - 1, -1, -1):
            for column in range(left + 1, right - len(label) + 1):
                if canvas.is_clear(column, row, len(label)):
                    canvas.write(column, row, label, "danger")
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


def _with_y_axes(
    canvas: Canvas, chart: Chart, glyphs: Glyphs, free: int, gutter: int
) -> list[Line]:
    left = _labels_by_row(chart.y_ticks, canvas.height, free)
    right = _labels_by_row(chart.right_ticks, canvas.height, free)
    lines: list[Line] = []
    for row in range(canvas.height):
        number = left.get(row, "")
        wall = glyphs.tick if number else glyphs.wall
        line: Line = [(f"{f'{number:>4}'[:5]:<5}", "muted"), (wall, "faint"), *canvas.row(row)]
        if chart.right_ticks and gutter == RIGHT_GUTTER:
            other = right.get(row, "")
            line += [
                (glyphs.wall, "faint"),
                (f"{other:>5}"[:5] if len(other) > 4 else f" {other:<4}", "muted"),
            ]
        else:
            line.append((" " * gutter, "text"))
        lines.append(line)
    return lines


def _labels_by_row(
    axis_ticks: Sequence[tuple[float, str]], height: int, free: int
) -> dict[int, str]:
    last = height - free - 1
    return {free + round((1 - share) * last): label for share, label in axis_ticks}


def _step_axis(chart: Chart, columns: int, width: int, glyphs: Glyphs) -> Line:
    signs: list[tuple[str, str]] = [(glyphs.rule, "faint")] * columns
    for first, last in chart.bands:
        # Visible without color, too, and where there is no room for the label.
        left, right = (_column(chart, x, columns) for x in (first, last))
        for column in range(max(left, 0), min(right, columns - 1) + 1):
            signs[column] = (glyphs.filled, "danger")
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
    """Return the ticks of an axis from 0 to 1 for a plot `height` cells high, evenly spaced."""
    spare: dict[int, int] = {}
    for parts in (4, 5, 2):
        shares = [part / parts for part in range(parts + 1)]
        used = even_rows(shares, height)
        # Two rows and more from tick to tick.
        if used > 2 * parts and _is_even(shares, used):
            spare[parts] = height - used
    # Halves are coarse: they win only where others would leave two rows more empty.
    parts = min(spare or (2,), key=lambda parts: spare.get(parts, 0) + (parts == 2))
    text = "{:.2f}" if parts == 4 else "{:.1f}"
    return [(part / parts, text.format(part / parts)) for part in range(parts + 1)]
