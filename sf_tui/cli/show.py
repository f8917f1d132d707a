"""`sf show`: what has happened in one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from sf_tui.cli.output import drawing_console, write_json, write_line

LINES_SHOWN = 20
"""Newest commands, and newest alerts, that are printed; `--json` has all of them."""


NO_STAGE = "no stage has begun"


def show(
    run: Annotated[str, typer.Argument(help="A run's id, a prefix of it, `last`, or a directory.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a run's state, each task's course, commands, alerts and checkpoints.

    Of a damaged run it shows what can be read, names the damage on stderr, and exits with 0.
    """
    # Deferred: not needed for `sf --help`.
    from dataclasses import asdict

    from sf_tui.cli.narration import closing_rows, closing_table, diagnosis_line
    from sf_tui.cli.runs import row_of
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
        say(f"{at}{command.action} by {command.by}{value} {command.status}{reason}")
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
