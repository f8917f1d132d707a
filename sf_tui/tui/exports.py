"""What the operator takes out of the console: the screen as SVG, the values as Markdown.

Knows what is shown and where files can be written; sends nothing and draws nothing.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from sf_tui.errors import RunError
from sf_tui.printable import printable
from sf_tui.tui.activity import Kind
from sf_tui.tui.panels.score_words import drop_text
from sf_tui.tui.scores import losses, lowest_in, run_start, score_now
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.measured import format_score


def save_file(view: ViewState, name: str, content: str) -> Path:
    """Write a file into the run directory, else the working directory, else the temporary one.

    Raises:
        RunError: none of them is writable.
    """
    problems = []
    for folder in (view.run.path / "console", Path.cwd(), Path(tempfile.gettempdir())):
        path = folder / name
        try:
            folder.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
        except OSError as error:
            problems.append(f"{folder}: {error.strerror}")
            continue
        return path
    raise RunError(f"can't save {name}: {'; '.join(problems)}", "make room on the disk")


def timed_name(stem: str, suffix: str, now_s: float) -> str:
    """Return a file name that sorts by time."""
    return f"{stem}-{datetime.fromtimestamp(now_s, UTC):%Y%m%d-%H%M%S}{suffix}"


def values_as_markdown(view: ViewState) -> str:
    """Return the console's values as Markdown, to paste into a ticket or a chat."""
    history, stage = view.live, view.stage
    lines = [f"**{view.run.id}**: {history.status.replace('_', ' ')}"]
    if stage is not None:
        lines[0] += f", stage {stage.name}, step {view.step} of {stage.steps}"
    lines += [
        "",
        "| task | run start | worst in this stage | now | since the run began | in this stage |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lost = {loss.task: loss for loss in losses(view)}
    for task in view.tasks:
        loss = lost.get(task)
        scores = (run_start(view, task), lowest_in(view, task, 0, view.step), score_now(view, task))
        cells = [
            f"{task} ({history.metric(task).name})",
            *(format_score(score, counts=True) for score in scores),
            drop_text(loss.since_run if loss else None),
            drop_text(loss.in_stage if loss else None),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    frozen = view.frozen_layers
    lines += ["", f"Frozen: {', '.join(frozen) if frozen else 'nothing'}."]
    if view.anchor is not None:
        lines.append(f"Anchored to the start model, strength {view.anchor_strength:g}.")
    lines += [row.text for row in view.live.activity.rows if row.kind is Kind.VERDICT][-1:]
    lines.append(f"`{view.run.path}`")
    # The clipboard may be pasted into a terminal.
    return printable("\n".join(lines) + "\n")
