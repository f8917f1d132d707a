"""Prints rows in columns: aligned on a terminal, tab-separated with a header line elsewhere.

The first column is never cut or broken, because it is what a person copies: a narrow terminal loses
other columns instead. Knows nothing of what the rows are about.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from sf_tui.cli.output import write_line
from sf_tui.printable import printable

_GAP = "  "
_LEAST_CELLS = 12
"""A text column narrower than this says nothing and is left out."""


@dataclass(frozen=True)
class Column:
    """A column's name and how it gives way.

    Attributes:
        name: header, also of the tab-separated form.
        right: whether it is aligned to the right.
        cut: whether a narrow terminal may cut its cells.
    """

    name: str
    right: bool = False
    cut: bool = False


def to_terminal() -> bool:
    """Return whether stdout is a terminal, so that columns are aligned."""
    return sys.stdout.isatty()


def write_columns(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a header and rows; control characters are escaped, also tabs and line breaks.

    Args:
        columns: the columns.
        rows: a cell for each column.
    """
    cells = [[printable(cell, multiline=False) for cell in row] for row in rows]
    names = [column.name for column in columns]
    if not to_terminal():
        for line in (names, *cells):
            write_line("\t".join(line))
        return
    widths = [max(map(cell_len, each)) for each in zip(names, *cells, strict=True)]
    shown = _fitted(columns, widths, shutil.get_terminal_size().columns)
    for line in (names, *cells):
        parts = [_placed(line[at], width, columns[at]) for at, width in shown.items()]
        write_line(_GAP.join(parts).rstrip())


def _fitted(columns: Sequence[Column], widths: Sequence[int], room: int) -> dict[int, int]:
    """Return the width of each column that is shown, by its index."""
    least = [
        min(width, _LEAST_CELLS) if column.cut else width
        for column, width in zip(columns, widths, strict=True)
    ]
    count = len(columns)
    while count > 1 and sum(least[:count]) + len(_GAP) * (count - 1) > room:
        count -= 1
    spare = max(room - sum(least[:count]) - len(_GAP) * (count - 1), 0)
    shown = {}
    for at in range(count):
        shown[at] = min(widths[at], least[at] + spare)
        spare -= shown[at] - least[at]
    # The first one stays whole, even where it alone is too wide.
    shown[0] = widths[0]
    return shown


def _placed(cell: str, width: int, column: Column) -> str:
    if cell_len(cell) > width:
        return set_cell_size(cell, width - 1) + "…"
    blanks = " " * (width - cell_len(cell))
    return blanks + cell if column.right else cell + blanks
