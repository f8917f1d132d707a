"""How high each panel at the side is, by what it has to show. Knows no widgets."""

from __future__ import annotations

from sf_tui.tui.panels.machine import machine_rows, rows_of_ranks
from sf_tui.tui.panels.tables import layers_shown
from sf_tui.tui.panels.verdict import lines_wanted
from sf_tui.tui.view_state import ViewState

_ROWS_ELSEWHERE = {False: 14, True: 17}
"""Rows of header, danger strip, events and footer; on wide screens the events have more. Rows and
widths match the stylesheet."""
_WIDTHS = {False: 44, True: 60}
_LEAST_RUNS = {False: 0, True: 6}
"""Rows that a long verdict leaves for the run list."""
_LEAST_DRIFT = 5
_LEAST_VERDICT = 6
_GOOD_VERDICT = 8
"""Title, bar, numbers, deciding arm and evidence."""


def side_heights(view: ViewState, height: int, *, wide: bool) -> dict[str, int]:
    """Return the height of each side panel by its id, including the title line.

    Args:
        view: the state to show.
        height: of the terminal.
        wide: whether the layout has the run list.
    """
    drift = max(len(layers_shown(view)), 1) + 1
    # Title, heading, tasks, and what the values rest on.
    matrix = min(max(len(view.tasks), 1), 8) + 3
    machine = machine_rows(view, height)
    diagnosis = view.live.diagnosis
    if diagnosis is None:
        drift = min(drift, max(height - 28 - rows_of_ranks(view, height), 4) + 1)
        return {"drift": drift, "matrix": matrix, "verdict": 0, "machine": machine}
    # Each panel has an empty row below it; the log and the run list get the rest.
    left = height - _ROWS_ELSEWHERE[wide] - (matrix + 1) - (machine + 1) - 2
    drift = min(drift, max(left - _GOOD_VERDICT, _LEAST_DRIFT))
    verdict = max(left - drift - _LEAST_RUNS[wide], _LEAST_VERDICT)
    verdict = min(verdict, lines_wanted(diagnosis, _WIDTHS[wide]))
    return {"drift": drift, "matrix": matrix, "verdict": verdict, "machine": machine}
