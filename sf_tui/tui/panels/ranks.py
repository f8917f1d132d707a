"""The rows of the machine panel for a run of several processes: one a rank, under its host."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from sf_tui.tui.lines import Line, wrap_cells
from sf_tui.tui.rank_rows import RankRow

_RANK_CELLS = 5


def rank_lines(rows: Sequence[RankRow], width: int, most: int) -> list[Line]:
    """Return a heading, and for each host its ranks.

    Args:
        rows: the ranks, by host.
        width: cells of the panel.
        most: ranks to show; those in trouble first, then the lowest.
    """
    kept = sorted(rows, key=lambda row: (row.trouble is None, row.rank))[:most]
    shown = [row for row in rows if row in kept]
    columns = {
        "device": 7,
        "load": 10 if any(row.load.endswith("cores") for row in shown) else 5,
        "used": 8,
        "free": 8,
        "heat": 4,
        "power": 5,
    }
    # A CPU has neither temperature nor power to show.
    columns = {
        name: cells
        for name, cells in columns.items()
        if any(getattr(row, name) and row.is_current for row in shown)
    }
    names = {"heat": "°C", "power": "W"}
    lines: list[Line] = []
    if columns:
        heading = "".join(_cell(names.get(name, name), name, columns[name]) for name in columns)
        lines.append([(f" {'rank':<{_RANK_CELLS}}{heading}", "muted")])
    for host, group in groupby(shown, key=lambda row: row.host):
        own = list(group)
        model = next((row.model for row in own if row.model), "")
        if host:
            lines.append([(f" {host}{f': {model}' if model else ''}", "muted")])
        for row in own:
            lines += _row_lines(row, columns, width)
    if len(rows) > len(shown):
        lines.append([(f" and {len(rows) - len(shown)} more", "muted")])
    return lines


def _row_lines(row: RankRow, columns: dict[str, int], width: int) -> list[Line]:
    name = f" {row.rank:<{_RANK_CELLS}}"
    cells = "".join(_cell(getattr(row, each), each, columns[each]) for each in columns)
    figures: list[Line] = [[(name, "text"), (cells, "text")]] if row.is_current else []
    if row.trouble is None:
        return figures or [[(f"{name}no sign yet", "muted")]]
    lines = figures
    for text in wrap_cells(row.trouble.text, width - len(name)):
        lines.append([(" " * len(name) if lines else name, "text"), (text, "danger")])
    return lines


def _cell(text: str, name: str, cells: int) -> str:
    return f"{text:<{cells}}" if name == "device" else f"{text:>{cells}}"
