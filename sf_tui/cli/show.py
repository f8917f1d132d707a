"""`sf show`: what happened in one run, and the row that lists it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.complete import complete_run
from sf_tui.cli.options import AsJsonObject
from sf_tui.cli.output import drawing_console, write_json, write_line

if TYPE_CHECKING:
    from sf_tui.run.directory import RunDirectory
    from sf_tui.run.events import JsonObject
    from sf_tui.run.reading import RunReading
    from sf_tui.run.state import RunState
    from sf_tui.vocabulary.commands import Command

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
    json: AsJsonObject = False,
) -> None:
    """Show a run's state, each task's course, commands, alerts and checkpoints.

    For a damaged run it shows what can be read, reports the damage on stderr and exits with 0.
    """
    # Deferred: not needed for `sf --help`.
    from dataclasses import asdict

    from sf_tui.cli.narration import (
        closing_lines,
        closing_table,
        diagnosis_line,
        table_legend,
    )
    from sf_tui.cli.rank_lines import rank_lines, ranks_as_json
    from sf_tui.cli.target import run_name
    from sf_tui.run.closing import closing_of
    from sf_tui.run.course import courses
    from sf_tui.run.directory import find_run
    from sf_tui.run.liveness import WorkerState
    from sf_tui.run.reading import read_run
    from sf_tui.tui.operation_words import progress_parts, training_meanwhile
    from sf_tui.vocabulary.events import event_object

    found = find_run(run)
    reading = read_run(found)
    state = reading.state
    row = row_of(found, reading)
    for problem in row["damage"]:
        write_line(f"damaged: {problem}", err=True)
    # A starting worker has no lock yet.
    is_live = reading.live.has_worker or reading.live.state is WorkerState.STARTING
    is_dead = reading.live.state is WorkerState.DEAD
    waiting = waiting_commands(found, state) if is_live else []
    if json:
        closing = closing_of(found, state, run_name(found), is_dead=is_dead)
        row |= {
            "facts": reading.facts,
            "tasks": [row.as_json(state.metric_of(row.task)) for row in courses(state)],
            "commands": [asdict(command) for command in state.commands.values()],
            "alerts": [event_object(event) for event in state.alerts],
            "checkpoints": [event_object(event) for event in state.checkpoints],
            "rewinds": [event_object(event) for event in state.rewinds],
            "operation": event_object(state.operation) if state.operation else None,
            "beside": event_object(state.beside) if state.beside else None,
            "waiting": [asdict(command) for command in waiting],
            "ranks": ranks_as_json(reading.live),
            "diagnosis": event_object(state.diagnosis) if state.diagnosis else None,
            "model": str(found.model) if found.model.is_dir() else None,
            "outcome": closing.outcome,
            "weights": closing.model,
            "next": [{"command": command, "why": why} for command, why in closing.next_steps],
        }
        write_json(row, str)
        return
    console = drawing_console()

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    say(f"run      {row['run']}  ({row['path']})")
    if row["name"]:
        say(f"name     {row['name']}")
    if row["tags"]:
        say(f"tags     {', '.join(row['tags'])}")
    if row["note"]:
        say(f"note     {row['note']}")
    say(f"profile  {row['profile']}")
    at = f"stage {row['stage']} step {row['step']}/{row['steps']}" if row["stage"] else NO_STAGE
    say(f"state    {row['state']}, {at}")
    at_work = reading.live.has_worker and not reading.live.is_loading(state.last_time)
    for now in (state.operation, state.beside) if at_work else ():
        if now is not None:
            parts = ", ".join([training_meanwhile(now, paused=state.paused), *progress_parts(now)])
            say(f"now      {now.op}: {parts}; `sf act {run_name(found)} cancel` ends it")
    for command in waiting:
        say(f"waiting  {_command_line(command)}")
    for line in rank_lines(reading.live):
        say(line)
    if state.finished is not None and state.finished.reason:
        say(f"reason   {state.finished.reason}")
    console.print()
    console.print(closing_table(state))
    if state.stages:
        for line in table_legend(state):
            say(line)
    if state.commands:
        say("\ncommands")
    for command in _newest(list(state.commands.values()), "commands", say):
        say(f"  {_command_line(command)}")
    if state.alerts:
        say("\nalerts")
    for alert in _newest(state.alerts, "alerts", say):
        say(f"  {clock(alert.time)} {alert.level}: {alert.text}")
    if state.diagnosis is not None:
        since = "" if state.diagnosis_holds else "; the weights were changed since"
        say(f"\ndiagnosis  {diagnosis_line(state.diagnosis)}{since}")
    say("")
    say(f"checkpoints {_checkpoints_line(found, state)}")
    if reading.live.state in {WorkerState.FINISHED, WorkerState.DEAD}:
        for line in closing_lines(found, state, is_dead=is_dead):
            say(line)
    elif state.paused:
        say(f"next: `sf act {run_name(found)} resume`: training is paused and goes on from here")


def waiting_commands(run: RunDirectory, state: RunState) -> list[Command]:
    """Return the commands in the command log that no worker has answered yet, oldest first."""
    # Deferred: not needed for `sf --help`.
    from contextlib import suppress

    from sf_tui.run.commands import CommandTail
    from sf_tui.vocabulary.commands import Command

    lines: list[JsonObject] = []
    with suppress(OSError):
        # The worker that can't read its command log reports it.
        lines = CommandTail(run.commands).poll()
    sent = map(Command.from_line, lines)
    return [command for command in sent if command.id not in state.commands]


def _command_line(command: Command) -> str:
    # Deferred: not needed for `sf --help`.
    from sf_tui.vocabulary.measured import format_number

    when = clock(command.accepted or command.requested)
    value = f" at {format_number(command.value)}" if command.value is not None else ""
    reason = f": {command.reason}" if command.reason else ""
    at = "" if command.step is None else f"@{command.step} "
    return f"{when} {at}{command.action} by {command.sender}{value} {command.status}{reason}"


def clock(time: str) -> str:
    """Return the date and time of an event, in the local time zone."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.clock import parse_rfc3339

    try:
        return parse_rfc3339(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return "–"


def _checkpoints_line(run: RunDirectory, state: RunState) -> str:
    """Return how many checkpoints are on disk, and the newest one of the current branch."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.checkpoint_folders import (
        existing_checkpoints,
        missing_outside,
        newest_checkpoint,
    )
    from sf_tui.vocabulary.events import ASIDE

    if run.references.exists():
        gone = missing_outside(run)
        written = [event for event in state.checkpoints if event.step]
        there = sum(event.path not in gone for event in written)
        newest = newest_checkpoint(run, state)
        lines = [f"{there} of {len(written)} where the training wrote them"]
        lines += [f"the newest: {newest.path}"] if newest is not None else []
        return "; ".join([*lines, *gone.values()])
    on_disk = [path for path in run.checkpoints.glob("*/step-*") if path.is_dir()]
    aside = sum(ASIDE in path.name for path in on_disk)
    text = f"{len(on_disk) - aside} on disk"
    if aside:
        text += f", and {aside} kept from before a repair or a rollback"
    current = sum(len(state.current_checkpoints(stage)) for stage in state.stages)
    deleted = current - len(existing_checkpoints(run, state))
    if deleted:
        text += f"; {deleted} deleted, so no rollback reaches them"
    newest = newest_checkpoint(run, state)
    return text if newest is None else f"{text}; the newest: {newest.path}"


def _newest(entries: Sequence[Any], name: str, say: Callable[[str], None]) -> Sequence[Any]:
    earlier = len(entries) - LINES_SHOWN
    if earlier > 0:
        say(f"… and {earlier} earlier {name}; --json has all")
    return entries[-LINES_SHOWN:]


def _scores(state: RunState) -> tuple[str, str]:
    """Return the earlier task that lost most since the run began, and the stage's own task."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.losses import score_of, task_losses
    from sf_tui.vocabulary.measured import format_drop, format_score

    stage = state.stage
    if stage is None or not stage.probes:
        return "", ""
    losses = task_losses(state)
    old = ""
    if losses:
        worst = losses[0]
        old = f"{worst.task} {format_score(worst.now)}, {format_drop(worst.since_run)}"
        old += f" (worst of {len(losses)})" if len(losses) > 1 else ""
    own = score_of(state, stage.task, stage.probes[-1])
    return old, "" if own is None else f"{stage.task} {format_score(own)}"


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
    from sf_tui.run.labels import read_labels
    from sf_tui.run.liveness import WorkerState

    state, live = reading.state, reading.live.state
    labels, of_labels = read_labels(run.path)
    created = reading.facts.get("created")
    stage = state.stage
    latest = stage.probes[-1].metrics if stage and stage.probes else {}
    shown = state.status if live in {WorkerState.ALIVE, WorkerState.FINISHED} else live
    old, new = _scores(state)
    return {
        "run": run.id,
        "path": str(run.path),
        "name": labels.name,
        "note": labels.note,
        "tags": list(labels.tags),
        "created": created if isinstance(created, str) else None,
        "profile": state.profile,
        "state": "damaged" if reading.damage else shown,
        "worker": live,
        "stage": stage.name if stage else None,
        "step": stage.step if stage else 0,
        "steps": stage.steps if stage else 0,
        "accuracy": {task: state.value_of(task, latest) for task in latest},
        "old": old,
        "new": new,
        "exit_code": state.finished.exit_code if state.finished else None,
        "last_event": state.last_time,
        "damage": [*reading.damage, *of_labels],
    }
