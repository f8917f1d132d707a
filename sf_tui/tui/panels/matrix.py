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
from sf_tui.vocabulary.sizes import counted

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
        full: the same where there is more room.
        scores: by task.
        role: paint of its values; empty to paint them by what was lost since the run began.
        known: tasks that were learned before it.
    """

    title: str
    full: str
    scores: dict[str, Score | None]
    role: str = ""
    known: Sequence[str] = field(default_factory=list)


class Matrix(Panel):
    """One row per task, one column per stage; the newest stage has the current values."""

    TITLE: ClassVar[str] = "accuracy by stage"
    can_focus = True

    HELP: ClassVar[str] = (
        "Each task's score at the run's start, after each stage, and now, and its worst one in "
        "this stage. Red: lost the alert's points since the run began."
    )
    SIGNS: ClassVar[Sequence[tuple[str, str]]] = (
        ("s1", "the first stage; the rows name the task that it trains"),
        (PROBE_SIGN, "from a probe, on fewer examples than the whole split"),
    )

    def title_right(self) -> Sequence[Piece]:
        """Return the meaning of the last column."""
        return (("worst: in this stage", "muted"),) if self.view.live.curves.stages else ()

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return a heading, a row for each task, and what the values rest on."""
        view = self.view
        columns = _columns(view)
        if not columns:
            return [[("  no stage has begun", "muted")]]
        keys = {stage.task: f" s{number}" for number, stage in enumerate(viewed_stages(view), 1)}
        if len(keys) == 1:
            keys = {}
        key_width = max(map(len, keys.values()), default=0)
        name_width = min(max(len(task) for task in view.tasks), _NAME_CELLS) + key_width + 3
        room = width - name_width
        # The run's start, the newest stages, and the worst value.
        newest = columns[1:-1][-max(room // _CELLS - 2, 1) :]
        columns = [columns[0], *newest, columns[-1]]
        wide = _columns_with_interval(len(columns), room)
        cells = [_WITH_INTERVAL if index in wide else _CELLS for index in range(len(columns))]
        header: Line = [(" " * name_width, "text")]
        header += [
            (f"{column.title if size == _CELLS else column.full:>{size - 1}} ", "muted")
            for column, size in zip(columns, cells, strict=True)
        ]
        lines = [header]
        for task in view.tasks:
            role, marker = view.task_paint(task)
            name = task[:_NAME_CELLS]
            key = f"{keys.get(task, ''):<{key_width}}"
            line: Line = [(f" {marker} {name:<{name_width - 3 - key_width}}", role), (key, "muted")]
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
    """Return the run's start, the stages up to the viewed one, and the worst value in that."""
    stages = viewed_stages(view)
    if not stages:
        return []
    tasks = view.tasks
    start = {task: run_start(view, task) for task in tasks}
    columns = [_Column("start", "run start", start, "muted")]
    for number, stage in enumerate(stages, 1):
        probe = probe_of(view, stage)
        scores = {task: score_of(view.live, task, probe) if probe else None for task in tasks}
        is_end = probe is not None and probe.step >= stage.steps
        key = f"s{number}" if len(stages) > 1 else ""
        title, full = (f"end {key}", f"after {key}") if key else ("end", "stage end")
        if stage is stages[-1] and not is_end:
            title = full = "now"
        columns.append(_Column(title, full, scores, "", view.live.watched_of(stage.known)))
    worst = {task: lowest_in(view, task, 0, view.step) for task in tasks}
    return [*columns, _Column("worst", "worst", worst, "muted")]


def _columns_with_interval(count: int, room: int) -> set[int]:
    """Return the columns with room for an interval: the newest first, the worst value last."""
    order = [*range(count - 2, 0, -1), 0, count - 1]
    spare = (room - count * _CELLS) // (_WITH_INTERVAL - _CELLS)
    return set(order[: max(spare, 0)])


def _legend(columns: Sequence[_Column], width: int) -> Line:
    """Return what the values rest on; the words are shortened where there is no room."""
    scores = [score for column in columns for score in column.scores.values() if score is not None]
    full = _range({score.examples for score in scores if score.full})
    probed = _range({score.examples for score in scores if not score.full})
    forms = [
        ("full split, {}", f"{PROBE_SIGN} probe, {counted(probed, 'example')}"),
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
