"""The accuracy matrix: one row per task, one column per stage, each value with what it rests on.

Stage ends are scored on the whole held-out split; what is measured during a stage, on the probe's
examples. Values of a probe are marked, and the last line gives both numbers of examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from sf_tui.run.losses import score_of
from sf_tui.tui.lines import Line, Piece, line_width
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.score_words import is_lost, score_text
from sf_tui.tui.scores import (
    drop_since_run,
    lowest_in,
    probe_of,
    run_start,
    viewed_stages,
)
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.measured import Score

_NAME_CELLS = 12
_CELLS = 7
_WITH_INTERVAL = 14
PROBE_SIGN = "*"
"""Behind a value that rests on the probe's examples, not on the whole split."""


@dataclass
class _Column:
    """One column.

    Attributes:
        title: its heading.
        scores: by task.
        role: paint of its values; empty to paint them by what was lost since the run began.
        known: tasks that were learned before it.
    """

    title: str
    scores: dict[str, Score | None]
    role: str = ""
    known: Sequence[str] = field(default_factory=list)


class Matrix(Panel):
    """One row per task, one column per stage; the newest stage has the current values."""

    TITLE: ClassVar[str] = "accuracy by stage"
    can_focus = True

    def title_right(self) -> Sequence[Piece]:
        """Return the meaning of the second column."""
        return (("worst: in this stage", "muted"),) if self.view.live.curves.stages else ()

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return a heading, a row for each task, and what the values rest on."""
        view = self.view
        columns = _columns(view)
        if not columns:
            return [[("  no stage has begun", "muted")]]
        name_width = min(max(len(task) for task in view.tasks), _NAME_CELLS) + 3
        room = width - name_width
        # The run's start, the worst value and the newest stages.
        columns = [*columns[:2], *columns[2:][-max(room // _CELLS - 2, 1) :]]
        wide = _columns_with_interval(len(columns), room)
        cells = [_WITH_INTERVAL if index in wide else _CELLS for index in range(len(columns))]
        header: Line = [(" " * name_width, "text")]
        header += [
            (f"{_shortened(column.title, size - 1, view.glyphs.ellipsis):>{size}}", "muted")
            for column, size in zip(columns, cells, strict=True)
        ]
        lines = [header]
        for task in view.tasks:
            role, marker = view.task_paint(task)
            line: Line = [(f" {marker} {task[:_NAME_CELLS]:<{name_width - 3}}", role)]
            for column, size in zip(columns, cells, strict=True):
                line.append(self._cell(task, column, size))
            lines.append(line)
        return [*lines[: height - 1], _legend(columns, width)][:height]

    def _cell(self, task: str, column: _Column, size: int) -> Piece:
        view = self.view
        score = column.scores.get(task)
        if score is None:
            return (f"{'·':>{size - 1}} ", "faint")
        sign = " " if score.full else PROBE_SIGN
        text = f"{score_text(view, score, interval=size == _WITH_INTERVAL)}{sign}"
        role = column.role or "text"
        if not column.role and task in column.known:
            role = "danger" if is_lost(view, drop_since_run(view, task, score)) else "text"
        return (f"{text:>{size}}", role)


def _columns(view: ViewState) -> list[_Column]:
    """Return the run's start, the worst value of the viewed stage, and the stages up to it."""
    stages = viewed_stages(view)
    if not stages:
        return []
    tasks = view.tasks
    start = _Column("start", {task: run_start(view, task) for task in tasks}, "muted")
    seen = {task: lowest_in(view, task, 0, view.step) for task in tasks}
    columns = [start, _Column("worst", seen, "muted")]
    for stage in stages:
        probe = probe_of(view, stage)
        scores = {task: score_of(view.live, task, probe) if probe else None for task in tasks}
        is_end = probe is not None and probe.step >= stage.steps
        title = stage.name if stage is not stages[-1] or is_end else "now"
        columns.append(_Column(title, scores, "", view.live.watched_of(stage.known)))
    return columns


def _columns_with_interval(count: int, room: int) -> set[int]:
    """Return the columns with room for an interval: the newest first, the worst value last."""
    order = [*range(count - 1, 1, -1), 0, 1]
    spare = (room - count * _CELLS) // (_WITH_INTERVAL - _CELLS)
    return set(order[: max(spare, 0)])


def _shortened(title: str, cells: int, ellipsis: str) -> str:
    """Return the end of a long stage's name: names of one run often begin alike."""
    return title if len(title) <= cells else f"{ellipsis}{title[1 - cells :]}"


def _legend(columns: Sequence[_Column], width: int) -> Line:
    """Return what the values rest on; the words are shortened where there is no room."""
    scores = [score for column in columns for score in column.scores.values() if score is not None]
    full = _range({score.examples for score in scores if score.full})
    probed = _range({score.examples for score in scores if not score.full})
    forms = [
        ("full split, {}", f"{PROBE_SIGN} probe, {{}} examples"),
        ("full, {}", f"{PROBE_SIGN} probe, {{}}"),
    ]
    line: Line = []
    for whole, part in forms:
        said = [text.format(count) for text, count in ((whole, full), (part, probed)) if count]
        line = [(f" {'   '.join(said)}", "muted")]
        if line_width(line) <= width:
            break
    return line


def _range(counts: set[int]) -> str:
    """Return the numbers of examples as `101` or `14–101`; empty if unknown."""
    known = sorted(counts - {0})
    if not known:
        return ""
    return str(known[0]) if len(known) == 1 else f"{known[0]}–{known[-1]}"
