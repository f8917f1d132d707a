"""`sf show`: what has happened in one run."""

from __future__ import annotations

from typing import Annotated

import typer

from sf_tui.cli.output import drawing_console, write_json


def show(
    run: Annotated[str, typer.Argument(help="A run's id, a prefix of it, `last`, or a directory.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a run's state, each task's course, commands, alerts and checkpoints."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.narration import closing_rows, closing_table, diagnosis_line
    from sf_tui.cli.runs import run_row
    from sf_tui.run.directory import find_run
    from sf_tui.run.events import read_events
    from sf_tui.run.history import fold

    found = find_run(run)
    facts = found.read_run_json()
    history = fold(read_events(found.events))
    row = run_row(found)
    if json:
        row |= {
            "facts": facts,
            "tasks": closing_rows(history),
            "commands": [vars(command) for command in history.commands.values()],
            "alerts": history.alerts,
            "checkpoints": history.checkpoints,
            "rewinds": history.rewinds,
            "diagnosis": history.diagnosis,
            "model": str(found.model) if found.model.is_dir() else None,
        }
        write_json(row, str)
        return
    console = drawing_console()

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    say(f"run      {row['run']}  ({row['path']})")
    say(f"profile  {row['profile']}")
    say(f"state    {row['state']}, stage {row['stage']} step {row['step']}/{row['steps']}")
    if history.finished is not None and history.finished.get("reason"):
        say(f"reason   {history.finished['reason']}")
    console.print()
    console.print(closing_table(history))
    if history.commands:
        console.print()
    for command in history.commands.values():
        value = f" at {command.value:.3f}" if command.value is not None else ""
        reason = f": {command.reason}" if command.reason else ""
        say(f"@{command.step} {command.action} by {command.by}{value} {command.status}{reason}")
    for alert in history.alerts:
        say(f"{alert['level']}: {alert['message']}")
    if history.diagnosis is not None:
        since = "" if history.diagnosis_holds else "; the weights were changed since"
        say(f"diagnosis: {diagnosis_line(history.diagnosis)}{since}")
    if history.checkpoints:
        console.print()
        last = history.checkpoints[-1]
        say(f"checkpoints {len(history.checkpoints)}, the last: {last['path']}")
    if found.model.is_dir():
        say(f"model    {found.model}")
