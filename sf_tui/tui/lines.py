"""Lines of painted text, which every panel is made of, and how they are fitted to a width.

A line is a list of (text, role) pieces. Knows cells; the theme decides what a role looks like.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len, chop_cells, set_cell_size

Piece = tuple[str, str]
Line = list[Piece]


def line_width(line: Iterable[Piece]) -> int:
    """Return a line's width in cells."""
    return sum(cell_len(text) for text, _ in line)


def fit(line: Sequence[Piece], width: int, ellipsis: str = "…") -> Line:
    """Return a line of exactly `width` cells: padded with blanks, or cut with an ellipsis."""
    taken = line_width(line)
    if taken < width:
        return [*line, (" " * (width - taken), "text")]
    if taken == width:
        return list(line)
    return [*crop(line, max(width - 1, 0)), (ellipsis[:width], "muted")]


def crop(line: Sequence[Piece], width: int) -> Line:
    """Return the first `width` cells of a line, padded if a wide character is cut."""
    cropped: Line = []
    left = width
    for text, role in line:
        size = cell_len(text)
        if size <= left:
            cropped.append((text, role))
            left -= size
            continue
        if left > 0:
            cropped.append((set_cell_size(text, left), role))
        left = 0
        break
    return cropped


def spread(left: Sequence[Piece], right: Sequence[Piece], width: int, ellipsis: str = "…") -> Line:
    """Return a line with one part at each end; without room, only the left part."""
    free = width - line_width(left) - line_width(right)
    if free < 1:
        return fit(left, width, ellipsis)
    return [*left, (" " * free, "text"), *right]


def join(parts: Iterable[Sequence[Piece]], gap: str = "  ") -> Line:
    """Join parts into one line with a gap between them; skip empty parts."""
    line: Line = []
    for part in parts:
        if not part:
            continue
        if line:
            line.append((gap, "text"))
        line.extend(part)
    return line


def as_many_as_fit(parts: Iterable[Sequence[Piece]], width: int, gap: str = "  ") -> Line:
    """Join leading parts up to the first one that does not fit whole."""
    line: Line = []
    taken = 0
    for part in parts:
        if not part:
            continue
        size = line_width(part) + (len(gap) if line else 0)
        if taken + size > width:
            break
        if line:
            line.append((gap, "text"))
        line.extend(part)
        taken += size
    return line


def those_that_fit(parts: Iterable[Sequence[Piece]], width: int, gap: str = "  ") -> Line:
    """Join the parts that fit whole, in order, leaving out those that do not."""
    kept: list[Sequence[Piece]] = []
    for part in parts:
        if part and line_width(join([*kept, part], gap)) <= width:
            kept.append(part)
    return join(kept, gap)


def first_that_fits(forms: Iterable[Line], width: int) -> Line:
    """Return the first of several forms that fits; the last one if none does, empty without any."""
    form: Line = []
    for form in forms:
        if line_width(form) <= width:
            break
    return form


def bar_of(share: float, heights: str) -> str:
    """Return the bar of a share from 0 to 1, out of bars from the lowest to the highest."""
    return heights[min(int(share * len(heights)), len(heights) - 1)]


def wrap_cells(text: str, width: int) -> list[str]:
    """Return a text as lines of at most `width` cells; a word wider than a line is broken."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and cell_len(line) + 1 + cell_len(word) <= width:
            line += f" {word}"
            continue
        if line:
            lines.append(line)
        pieces = chop_cells(word, max(width, 2)) if cell_len(word) > width else [word]
        lines += pieces[:-1]
        line = pieces[-1]
    return [*lines, line] if line or not lines else lines


def changed_span(before: Line, after: Line) -> tuple[int, int] | None:
    """Return the half-open range of cells in which two lines of equal width differ.

    None if they are equal. A piece with wide characters differs as a whole.
    """
    if before == after:
        return None
    old, new = _cells(before), _cells(after)
    if len(old) != len(new):
        return (0, max(len(old), len(new)))
    differing = [index for index, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    return (differing[0], differing[-1] + 1) if differing else None


def _cells(line: Line) -> list[tuple[str, str]]:
    """Return a line by cell; a piece with wide characters fills each of its cells whole."""
    cells: list[tuple[str, str]] = []
    for text, role in line:
        size = cell_len(text)
        cells.extend(
            ((sign, role) for sign in text) if size == len(text) else [(text, role)] * size
        )
    return cells
