"""What an operator takes away from the console: a picture of it, or its values as text."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from sf_tui.errors import RunError
from sf_tui.printable import printable
from sf_tui.tui.activity import Kind
from sf_tui.tui.numbers import format_change, format_share
from sf_tui.tui.view_state import ViewState


def keep_file(view: ViewState, name: str, content: str) -> Path:
    """Write a file beside the run; where that can't be written, where the reader is.

    Raises:
        RunError: no place could be written.
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
    """Return what the console shows in numbers, to paste into a ticket or a chat."""
    history, stage = view.live, view.stage
    lines = [f"**{view.run.id}**: {history.status.replace('_', ' ')}"]
    if stage is not None:
        lines[0] += f", stage {stage.name}, step {view.step} of {stage.steps}"
    lines += [
        "",
        "| task | stage start | worst | now | change |",
        "| --- | --- | --- | --- | --- |",
    ]
    for task in view.tasks:
        start, now = view.accuracy_at_start(task), view.accuracy_now(task)
        series = stage.accuracy.get(task) if stage else None
        extremes = series.extremes(0, view.step) if series else None
        metric = history.metric(task)
        change = ""
        if start is not None and now is not None:
            change = format_change(-metric.drop(start, now), metric)
        lines.append(
            f"| {task} ({metric.name}) | {format_share(start)} | "
            f"{format_share(metric.worst(extremes) if extremes else None)} | {format_share(now)} | "
            f"{change} |"
        )
    frozen = view.frozen_layers
    lines += ["", f"Frozen: {', '.join(frozen) if frozen else 'nothing'}."]
    if view.anchor is not None:
        lines.append(f"Anchored to the start model, strength {view.anchor_strength:g}.")
    lines += [row.text for row in view.live.activity.rows if row.kind is Kind.VERDICT][-1:]
    lines.append(f"`{view.run.path}`")
    # It goes to the clipboard, and from there perhaps to a terminal.
    return printable("\n".join(lines) + "\n")
