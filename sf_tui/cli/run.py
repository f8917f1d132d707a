"""`sf run`: play a profile, with the console, detached, or as the worker itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sf_tui.cli.output import write_line
from sf_tui.cli.resume import AcceptChangedData
from sf_tui.errors import UsageError
from sf_tui.home import user_path

DEFAULT_PROFILE = "biography-mini"


def run(
    profile: Annotated[
        str | None,
        typer.Argument(
            help=f"A built-in profile's name or a TOML file; default: {DEFAULT_PROFILE}."
        ),
    ] = None,
    no_ui: Annotated[
        bool, typer.Option("--no-ui", help="Run without the console (scripts, schedulers).")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the events to stdout (implies --no-ui).")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start the worker and return; prints the run's id.")
    ] = False,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run-dir",
            parser=user_path,
            metavar="DIR",
            help="The run's directory; must not exist yet.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="With --run-dir: go on with that run, or start it."),
    ] = False,
    accept_changed_data: AcceptChangedData = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a key of the profile."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Override the seed.")] = None,
    lite: Annotated[
        bool, typer.Option("--lite", help="Console: fewer updates, for slow links.")
    ] = False,
    ascii_only: Annotated[
        bool, typer.Option("--ascii", help="Console: no braille and no line drawing.")
    ] = False,
) -> None:
    """Tune a model on one task after another and watch the old ones."""
    if resume and run_dir is None:
        raise UsageError("--resume needs --run-dir", "or name the run: `sf resume RUN`")
    if detach and (no_ui or json):
        raise UsageError(
            "--detach and --no-ui exclude each other",
            "`sf show RUN --json` and `sf attach RUN` look at a detached run",
        )
    # Deferred: pydantic and the profile package take a tenth of a second.
    from sf_tui.cli.launching import (
        play_in_console,
        start_detached,
        take_stop_signals,
        wait_until_started,
        work_here,
    )
    from sf_tui.profile import dump_profile, load_profile
    from sf_tui.run.directory import RunDirectory, new_run_id, runs_home

    # Without a terminal there is nothing to draw a console on.
    headless = no_ui or json or not (sys.stdin.isatty() and sys.stdout.isatty())
    if resume and run_dir is not None and (run_dir / "run.json").exists():
        from sf_tui.cli.resume import go_on, refuse_other_profile

        refuse_other_profile(RunDirectory(run_dir.absolute()), profile, set_ or (), seed)
        raise typer.Exit(
            go_on(
                RunDirectory(run_dir.absolute()),
                accept_changed_data=accept_changed_data,
                headless=headless,
                json=json,
                detach=detach,
                lite=lite,
                ascii_only=ascii_only,
            )
        )
    loaded = load_profile(profile or DEFAULT_PROFILE, set_ or (), seed, files=True)
    signals = take_stop_signals() if headless and not detach else None
    made = RunDirectory.create(
        run_dir or runs_home() / new_run_id(loaded.name),
        profile_text=dump_profile(loaded),
        profile_name=loaded.name,
        argv=sys.argv,
    )
    if detach:
        wait_until_started(made, start_detached(made), created=True)
        write_line(str(made.path if run_dir else made.id))
        return
    if signals is not None:
        raise typer.Exit(work_here(made, signals, json=json, created=True))
    raise typer.Exit(play_in_console(made, created=True, lite=lite, ascii_only=ascii_only))
