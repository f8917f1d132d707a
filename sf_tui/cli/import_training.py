"""`sf import`: make a run from a training that has ended, without copying its checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sf_tui.cli.options import AsJsonObject, NewRunDir
from sf_tui.cli.output import check_interrupt, write_json, write_line
from sf_tui.home import user_path
from sf_tui.vocabulary.sizes import counted

if TYPE_CHECKING:
    from sf_tui.integrations.import_run import Imported


def import_training(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            parser=user_path,
            help="Read the output_dir of a training by transformers' Trainer.",
        ),
    ],
    old: Annotated[
        list[str] | None,
        typer.Option(
            "--old",
            metavar="DATA",
            help="Score every checkpoint on these rows of an old task; repeatable.",
        ),
    ] = None,
    new: Annotated[
        str | None,
        typer.Option(
            "--new", metavar="DATA", help="Read the rows that it trained on, or others like them."
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="MODEL",
            help="Load the model it began with; default: as its config names it.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name the run; default: the folder's name."),
    ] = None,
    run_dir: NewRunDir = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Set a key of the run's profile."),
    ] = None,
    json: AsJsonObject = False,
) -> None:
    """Make a run from a training that has ended: score all its checkpoints, copy none.

    Reads checkpoint-N folders (whole models or adapters) and trainer_state.json, as transformers,
    TRL, axolotl and LLaMA-Factory write them.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.target import narrator
    from sf_tui.integrations.trainer_output import read_output
    from sf_tui.run.directory import RunDirectory, check_utf8, new_run_id, runs_home

    folder = directory.absolute()
    check_utf8(folder)
    if run_dir is not None:
        # Before any weights are read.
        RunDirectory.check_new(run_dir.absolute())
    log = narrator()
    log(f"reading {folder}")
    output = read_output(folder)
    for note in output.notes:
        log(f"note: {note}")
    log(f"{counted(len(output.saved), 'checkpoint')} up to step {output.steps}")
    # Deferred: pydantic and the profile package take a tenth of a second.
    from sf_tui.integrations.imported_profile import ImportOptions, imported_profile

    options = ImportOptions(old or (), new, base, name, set_ or ())
    profile = imported_profile(output, options)
    for earlier in _imported_before(folder):
        log(f"note: {earlier} was imported from it before; this is another run")
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.integrations.import_run import import_training as make_run

    path = run_dir or runs_home() / new_run_id(profile.name)
    done = make_run(
        output, profile, path.absolute(), argv=sys.argv, log=log, check_stop=check_interrupt
    )
    _print(done, folder, json=json)


def _print(done: Imported, folder: Path, *, json: bool) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.narration import closing_lines
    from sf_tui.cli.target import run_name
    from sf_tui.run.reading import read_state

    state, _ = read_state(done.run)
    name = run_name(done.run)
    if json:
        write_json(
            {
                "run": name,
                "path": str(done.run.path),
                "source": str(folder),
                "checkpoints": [
                    {"step": one.step, "path": str(one.weights.folder)} for one in done.checkpoints
                ],
                "notes": list(done.notes),
            }
        )
        return
    for line in closing_lines(done.run, state):
        write_line(line, err=True)
    write_line(f"`sf show {name}` shows it, `sf attach {name}` replays it", err=True)
    write_line(name)


def _imported_before(folder: Path) -> list[str]:
    """Return the ids of the runs that were imported from a folder."""
    # Deferred: not needed for `sf --help`.
    import tomllib

    from sf_tui.run.directory import list_runs
    from sf_tui.run.durable import read_regular

    found = []
    for run in list_runs():
        try:
            host = tomllib.loads(read_regular(run.profile).decode()).get("host")
        except (OSError, ValueError):
            # A damaged run is no reason not to import another.
            continue
        if isinstance(host, dict) and host.get("output_dir") == str(folder):
            found.append(run.id)
    return found
