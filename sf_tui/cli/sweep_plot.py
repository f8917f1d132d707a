"""The trade-off of a sweep as a picture: the new task to the right, the old ones upward.

Draws characters for a terminal, and SVG for a report. A mark's shape tells the front from the rest,
so that it is read without color.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from sf_tui.printable import printable
from sf_tui.tui.axes import Scale, tick_label, ticks
from sf_tui.tui.canvas import Canvas

_LABEL_CELLS = 6
_ROOM = 0.05
"""Share of an axis that is left free at either end."""


@dataclass(frozen=True)
class Mark:
    """One trial in the picture."""

    number: int
    new: float
    old: float
    front: bool


@dataclass(frozen=True)
class Tradeoff:
    """A picture's content.

    Attributes:
        title: of the picture.
        across: what the horizontal axis is.
        up: what the vertical axis is.
        marks: the trials.
    """

    title: str
    across: str
    up: str
    marks: Sequence[Mark]


def _scale(values: Sequence[float]) -> Scale:
    low, high = min(values), max(values)
    margin = (high - low) * _ROOM or max(abs(high) * _ROOM, 0.01)
    return Scale(low - margin, high + margin)


def draw_text(tradeoff: Tradeoff, width: int, height: int) -> list[str]:
    """Return the picture as lines of characters: `*` is on the front, `o` is not.

    Args:
        tradeoff: the content, with at least one mark.
        width: cells.
        height: lines, with the axis.
    """
    across = _scale([mark.new for mark in tradeoff.marks])
    up = _scale([mark.old for mark in tradeoff.marks])
    canvas = Canvas(max(width - _LABEL_CELLS - 2, 10), max(height - 4, 4), braille=False)
    # The front last: it covers what is behind it.
    for mark in sorted(tradeoff.marks, key=lambda mark: mark.front):
        column, row = _cell(canvas, across, up, mark)
        canvas.write(column, row, "*" if mark.front else "o", "")
    for mark in sorted(tradeoff.marks, key=lambda mark: not mark.front):
        column, row = _cell(canvas, across, up, mark)
        name = str(mark.number)
        for at in (column + 1, column - len(name)):
            if canvas.is_free(at, row, len(name)):
                canvas.write(at, row, name, "")
                break
    labels = {
        round((1 - up.share(value)) * (canvas.height - 1)): tick_label(value)
        for value in ticks(up.low, up.high, max(canvas.height // 3, 2))
    }
    lines = [tradeoff.up]
    for row in range(canvas.height):
        content = "".join(text for text, _ in canvas.row(row)).rstrip()
        lines.append(f"{labels.get(row, ''):>{_LABEL_CELLS}} |{content}")
    lines.append(" " * (_LABEL_CELLS + 1) + "+" + "-" * canvas.width)
    axis = [" "] * (canvas.width + _LABEL_CELLS)
    for value in ticks(across.low, across.high, max(canvas.width // 12, 2)):
        text = tick_label(value)
        start = round(across.share(value) * (canvas.width - 1)) + _LABEL_CELLS // 2
        axis[start : start + len(text)] = text
    lines.append("  " + "".join(axis).rstrip())
    lines.append(" " * (_LABEL_CELLS + 2) + tradeoff.across)
    return [printable(line, multiline=False) for line in lines]


def _cell(canvas: Canvas, across: Scale, up: Scale, mark: Mark) -> tuple[int, int]:
    column = round(across.share(mark.new) * (canvas.width - 1))
    return column, round((1 - up.share(mark.old)) * (canvas.height - 1))


_WIDTH, _HEIGHT = 640, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 40, 60
_FRONT, _OTHER, _INK, _GRID = "#1f5fa8", "#a8591f", "#222222", "#dddddd"


def draw_svg(tradeoff: Tradeoff) -> str:
    """Return the picture as SVG: filled circles joined by steps are the front, hollow ones are not.

    Args:
        tradeoff: the content, with at least one mark.
    """
    across = _scale([mark.new for mark in tradeoff.marks])
    up = _scale([mark.old for mark in tradeoff.marks])

    def x(value: float) -> float:
        return _LEFT + across.share(value) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (1 - up.share(value)) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="13" fill="{_INK}">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_WIDTH / 2, 22, tradeoff.title, "middle"),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, tradeoff.across, "middle"),
        _text(_LEFT, _TOP - 6, tradeoff.up, "start"),
    ]
    for value in ticks(across.low, across.high, 6):
        parts.append(_line(x(value), _TOP, x(value), _HEIGHT - _BOTTOM, _GRID))
        parts.append(_text(x(value), _HEIGHT - _BOTTOM + 18, tick_label(value), "middle"))
    for value in ticks(up.low, up.high, 6):
        parts.append(_line(_LEFT, y(value), _WIDTH - _RIGHT, y(value), _GRID))
        parts.append(_text(_LEFT - 8, y(value) + 4, tick_label(value), "end"))
    front = sorted((mark for mark in tradeoff.marks if mark.front), key=lambda mark: mark.new)
    for first, second in pairwise(front):
        parts.append(_line(x(first.new), y(first.old), x(second.new), y(second.old), _FRONT))
    for mark in tradeoff.marks:
        color = _FRONT if mark.front else _OTHER
        fill = color if mark.front else "white"
        parts.append(
            f'<circle cx="{x(mark.new):.1f}" cy="{y(mark.old):.1f}" r="5" fill="{fill}" '
            f'stroke="{color}" stroke-width="2"/>'
        )
        parts.append(_text(x(mark.new) + 8, y(mark.old) - 6, str(mark.number), "start"))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str) -> str:
    shown = escape(printable(text, multiline=False))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{shown}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>'
