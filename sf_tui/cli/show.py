"""`sf show` and `sf runs`: what happened in one run, and the runs on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.complete import complete_run
from sf_tui.cli.output import drawing_console, write_json, write_line

if TYPE_CHECKING:
    from sf_tui.run.directory import RunDirectory
    from sf_tui.run.reading import RunReading

LINES_SHOWN = 20
"""Number of newest commands and newest alerts printed; `--json` has all of them."""


NO_STAGE = "no stage has begun"


def show(
    run: Annotated[
        str,
        typer.Argument(
            help="Show this run: an id, a prefix, `last` or a directory.",
            autocompletion=complete_run,
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a run's state, each task's course, commands, alerts and checkpoints.

    For a damaged run it shows what can be read, reports the damage on stderr and exits with 0.
    """
    # Deferred: not needed for `sf --help`.
    from dataclasses import asdict

    from sf_tui.cli.narration import closing_rows, closing_table, diagnosis_line
    from sf_tui.cli.show import row_of
    from sf_tui.run.directory import find_run
    from sf_tui.run.reading import read_run
    from sf_tui.vocabulary.events import event_object

    found = find_run(run)
    reading = read_run(found)
    state = reading.state
    row = row_of(found, reading)
    for problem in reading.damage:
        write_line(f"damaged: {problem}", err=True)
    if json:
        row |= {
            "facts": reading.facts,
            "tasks": closing_rows(state),
            "commands": [asdict(command) for command in state.commands.values()],
            "alerts": [event_object(event) for event in state.alerts],
            "checkpoints": [event_object(event) for event in state.checkpoints],
            "rewinds": [event_object(event) for event in state.rewinds],
            "diagnosis": event_object(state.diagnosis) if state.diagnosis else None,
            "model": str(found.model) if found.model.is_dir() else None,
        }
        write_json(row, str)
        return
    console = drawing_console()

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    say(f"run      {row['run']}  ({row['path']})")
    say(f"profile  {row['profile']}")
    at = f"stage {row['stage']} step {row['step']}/{row['steps']}" if row["stage"] else NO_STAGE
    say(f"state    {row['state']}, {at}")
    if state.finished is not None and state.finished.reason:
        say(f"reason   {state.finished.reason}")
    console.print()
    console.print(closing_table(state))
    if state.commands:
        console.print()
    for command in _newest(list(state.commands.values()), "commands", say):
        value = f" at {command.value:.3f}" if command.value is not None else ""
        reason = f": {command.reason}" if command.reason else ""
        at = "" if command.step is None else f"@{command.step} "
        when = f"{command.requested[:19]}Z " if command.requested else ""
        say(f"{when}{at}{command.action} by {command.sender}{value} {command.status}{reason}")
    for alert in _newest(state.alerts, "alerts", say):
        say(f"{alert.level}: {alert.message}")
    if state.diagnosis is not None:
        since = "" if state.diagnosis_holds else "; the weights were changed since"
        say(f"diagnosis: {diagnosis_line(state.diagnosis)}{since}")
    if state.checkpoints:
        console.print()
        last = state.checkpoints[-1]
        say(f"checkpoints {len(state.checkpoints)}, the last: {last.path}")
    if found.model.is_dir():
        say(f"model    {found.model}")


def _newest(entries: Sequence[Any], name: str, say: Callable[[str], None]) -> Sequence[Any]:
    earlier = len(entries) - LINES_SHOWN
    if earlier > 0:
        say(f"… and {earlier} earlier {name}; --json has all")
    return entries[-LINES_SHOWN:]


def runs(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="List at most this many; 0: all.")] = 20,
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
        # A likelihood that is not a number is null in the log.
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
    """Return the list entry of a run; a damaged run has the state `damaged`."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.errors import RunError
    from sf_tui.run.liveness import probe_liveness
    from sf_tui.run.reading import RunReading, read_run
    from sf_tui.run.state import RunState

    try:
        reading = read_run(run)
    except RunError as error:
        # Written by a newer version: it must not hide the others.
        reading = RunReading(RunState(), probe_liveness(run), {}, [error.message])
    return row_of(run, reading)


def row_of(run: RunDirectory, reading: RunReading) -> dict[str, Any]:
    """Return the list entry of a run that was read."""
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
