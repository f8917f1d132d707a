"""How high each panel at the side is: the rows that it has something to say in.

Knows what the panels have to say and the terminal's height; the stylesheet does the rest.
"""

from __future__ import annotations

from sf_tui.tui.panels.drift import layers_shown
from sf_tui.tui.panels.verdict import lines_wanted
from sf_tui.tui.view_state import ViewState

_ROWS_ELSEWHERE = {False: 14, True: 17}
"""Rows of header, danger strip, events and footer; on wide screens the events have more. As in the
stylesheet, and so are the widths."""
_WIDTHS = {False: 44, True: 60}
_LEAST_RUNS = {False: 0, True: 6}
"""Rows that a long verdict leaves the run list."""
_LEAST_DRIFT = 5
_LEAST_VERDICT = 6
_GOOD_VERDICT = 8
"""Title, bar, numbers and evidence, the arm that decided in words."""


def side_heights(view: ViewState, height: int, *, wide: bool) -> dict[str, int]:
    """Return each panel's rows by its id, its title line among them.

    Args:
        view: what is looked at.
        height: of the terminal.
        wide: whether the layout is the one with the run list.
    """
    gpus = len(view.machine.gpus) if view.machine else 0
    drift = max(len(layers_shown(view)), 1) + 1
    matrix = min(max(len(view.tasks), 1), 8) + 2
    machine = 2 + max(2 * gpus, 1) if view.machine and not view.machine.problem else 2
    diagnosis = view.live.diagnosis
    if diagnosis is None:
        drift = min(drift, max(height - 28, 4) + 1)
        return {"drift": drift, "matrix": matrix, "verdict": 0, "machine": machine}
    # Each panel has an empty row below it; the log and the run list get what is left.
    left = height - _ROWS_ELSEWHERE[wide] - (matrix + 1) - (machine + 1) - 2
    drift = min(drift, max(left - _GOOD_VERDICT, _LEAST_DRIFT))
    verdict = max(left - drift - _LEAST_RUNS[wide], _LEAST_VERDICT)
    verdict = min(verdict, lines_wanted(diagnosis, _WIDTHS[wide]))
    return {"drift": drift, "matrix": matrix, "verdict": verdict, "machine": machine}
