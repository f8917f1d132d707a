"""`sf runs`: the runs of this machine, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.output import drawing_console, write_json, write_line

if TYPE_CHECKING:
    from sf_tui.run.directory import RunDirectory


def runs(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="How many at most; 0: all.")] = 20,
) -> None:
    """List runs with their state, stage and accuracies."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import list_runs, runs_home

    found = list_runs()
    rows = [run_row(run) for run in (found[:limit] if limit else found)]
    if json:
        write_json(rows)
        return
    from rich.table import Table

    if not rows:
        write_line(f"no run yet in {runs_home()}", err=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("run", "state", "stage", "step", "accuracy"):
        table.add_column(column, overflow="fold")
    for row in rows:
        # A likelihood that is no number is null in the log.
        accuracy = "  ".join(
            f"{task} –" if value is None else f"{task} {value:.3f}"
            for task, value in row["accuracy"].items()
        )
        step = f"{row['step']}/{row['steps']}" if row["stage"] else ""
        table.add_row(row["run"], row["state"], row["stage"] or "", step, accuracy)
    drawing_console().print(table)


def run_row(run: RunDirectory) -> dict[str, Any]:
    """Return what a list shows of one run."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.events import read_events
    from sf_tui.run.history import fold
    from sf_tui.run.liveness import WorkerState, probe_liveness

    history = fold(read_events(run.events))
    live = probe_liveness(run).state
    stage = history.stage
    latest = stage.probes[-1].accuracy if stage and stage.probes else {}
    return {
        "run": run.id,
        "path": str(run.path),
        "profile": history.profile,
        "state": history.status if live in {WorkerState.ALIVE, WorkerState.FINISHED} else live,
        "stage": stage.name if stage else None,
        "step": stage.step if stage else 0,
        "steps": stage.steps if stage else 0,
        "accuracy": {task: history.value_of(task, latest) for task in latest},
        "exit_code": history.finished["exit_code"] if history.finished else None,
        "last_event": history.last_time,
    }
