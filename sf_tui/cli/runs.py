"""`sf runs`: the runs of this machine, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.output import drawing_console, write_json, write_line

if TYPE_CHECKING:
    from sf_tui.run.directory import RunDirectory
    from sf_tui.run.reading import RunReading


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
    console = drawing_console(soft_wrap=True)
    drawing_console().print(table)
    for row in rows:
        for problem in row["damage"][:1]:
            more = len(row["damage"]) - 1
            others = f" (and {more} more)" if more else ""
            console.print(f"damaged: {problem}{others}")


def run_row(run: RunDirectory) -> dict[str, Any]:
    """Return what a list shows of one run; one that is damaged has the state `damaged`."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.errors import RunError
    from sf_tui.run.liveness import probe_liveness
    from sf_tui.run.reading import RunReading, read_run
    from sf_tui.run.state import RunState

    try:
        reading = read_run(run)
    except RunError as error:
        # Of a newer version: it must not hide the others.
        reading = RunReading(RunState(), probe_liveness(run), {}, [error.message])
    return row_of(run, reading)


def row_of(run: RunDirectory, reading: RunReading) -> dict[str, Any]:
    """Return what a list shows of a run that was read."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.liveness import WorkerState

    state, live = reading.state, reading.live.state
    stage = state.stage
    latest = stage.probes[-1].metrics if stage and stage.probes else {}
    shown = state.status if live in {WorkerState.ALIVE, WorkerState.FINISHED} else live
    return {
        "run": run.id,
        "path": str(run.path),
        "profile": state.profile,
        "state": "damaged" if reading.damage else shown,
        "worker": live,
        "stage": stage.name if stage else None,
        "step": stage.step if stage else 0,
        "steps": stage.steps if stage else 0,
        "accuracy": {task: state.value_of(task, latest) for task in latest},
        "exit_code": state.finished.exit_code if state.finished else None,
        "last_event": state.last_time,
        "damage": reading.damage,
    }
