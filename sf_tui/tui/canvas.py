"""A grid of terminal cells to draw lines into, in dots of the braille block or in characters.

Knows cells and roles; knows nothing of what is drawn.
"""

from __future__ import annotations

from sf_tui.tui.lines import Line

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
