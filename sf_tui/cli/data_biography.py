"""`sf data biography`: write the synthetic experiment as JSONL files.

Knows options and output; the tasks package writes the files.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from sf_tui.cli.output import write_json_text, write_line
from sf_tui.home import user_path

if TYPE_CHECKING:
    from sf_tui.tasks.biography import Form


def biography(
    out: Annotated[
        Path,
        typer.Option(
            parser=user_path, metavar="DIR", help="Write to this directory, which is new or empty."
        ),
    ],
    people: Annotated[int, typer.Option(help="Set the number of people in pretraining.")] = 400,
    tuned: Annotated[
        float, typer.Option(help="Set the share of people that the old task trains on.")
    ] = 0.75,
    new_people: Annotated[
        int, typer.Option(help="Set the number of people in each new task.")
    ] = 25,
    form: Annotated[
        str, typer.Option(help="Ask new questions in the same or other words: same | other.")
    ] = "same",
    seed: Annotated[int, typer.Option(help="Seed the people and their facts.")] = 0,
    new_seed: Annotated[int, typer.Option(help="Seed the new people.")] = 0,
    entries: Annotated[int, typer.Option(help="Set the number of entries about each person.")] = 20,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as one JSON object.")
    ] = False,
) -> None:
    """Write the synthetic Biography experiment as prompt/completion JSONL files."""
    # Deferred: only this command needs the generator.
    from sf_tui.tasks.biography import Settings, write_biography

    # The generator refuses an unknown form and lists the known ones.
    settings = Settings(people, tuned, new_people, cast("Form", form), seed, new_seed)
    summary = write_biography(out, settings, entries)
    if as_json:
        write_json_text(json.dumps({"directory": str(out), **asdict(summary)}))
        return
    write_line(f"wrote {out}")
    for name, rows in summary.rows.items():
        write_line(f"  {name:<20} {rows:>8,} rows")
    write_line("guess floors (score of the most frequent answer)")
    for task, floors in summary.guess_floor.items():
        scores = " · ".join(f"{attribute} {floor:.2f}" for attribute, floor in floors.items())
        write_line(f"  {task:<6} {scores}")
