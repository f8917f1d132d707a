"""`sf merge`: write an adapter and its base as one plain model directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sf_tui.cli.complete import complete_run
from sf_tui.cli.output import write_line
from sf_tui.cli.target import check_out, find_target, narrator, refuse_options, target_locked
from sf_tui.errors import UsageError
from sf_tui.home import user_path


def merge(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_DIR",
            help="Merge a run's newest adapter, or a PEFT directory.",
            autocompletion=complete_run,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=user_path,
            metavar="DIR",
            help="Write the merged model to this new directory.",
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="MODEL",
            help="Merge into this model; default: the one that the adapter names.",
        ),
    ] = None,
) -> None:
    """Write the merged weights of an adapter and its base; neither of them is changed."""
    found = find_target(target)
    out = check_out(out, found)
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.cases.merging import merge_directory, merge_run
    from sf_tui.cases.operations import write_model
    from sf_tui.profile import load_profile
    from sf_tui.worker.checkpoints import read_record

    log = narrator()
    with target_locked(found):
        log(f"loading {found.name}")
        if found.run is not None:
            refuse_options({"--base": base}, "a run's profile names its base", "leave it out")
            loaded = merge_run(read_record(found.run, load_profile(found.run.profile)))
        elif found.folder is not None:
            loaded = merge_directory(found.folder.absolute(), base)
        else:
            raise UsageError(
                f"{found.name}: no directory", "name a run, or a directory that peft wrote"
            )
        log(f"writing {out}")
        write_model(loaded, out)
    write_line(str(out))
