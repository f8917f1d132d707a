"""`sf resume`: go on with a run that was stopped, failed or killed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sf_tui.errors import UsageError

if TYPE_CHECKING:
    from sf_tui.run.directory import RunDirectory


def resume(
    run: Annotated[str, typer.Argument(help="A run's id, a prefix of it, `last`, or a directory.")],
    no_ui: Annotated[
        bool, typer.Option("--no-ui", help="Be the worker itself: for scripts and schedulers.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the events to stdout (implies --no-ui).")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start the worker and return.")] = False,
    lite: Annotated[
        bool, typer.Option("--lite", help="Console: fewer updates, for slow links.")
    ] = False,
    ascii_only: Annotated[
        bool, typer.Option("--ascii", help="Console: no braille and no line drawing.")
    ] = False,
    repair_log: Annotated[
        bool,
        typer.Option("--repair-log", help="First take damaged lines out of the event log."),
    ] = False,
) -> None:
    """Go on with a run from its last checkpoint."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import find_run

    headless = no_ui or json or not (sys.stdin.isatty() and sys.stdout.isatty())
    if detach and (no_ui or json):
        raise UsageError("--detach and --no-ui exclude each other", "choose one")
    found = find_run(run)
    if repair_log:
        from sf_tui.cli.launching import repair_before_resume

        print(repair_before_resume(found), file=sys.stderr)
    raise typer.Exit(
        go_on(
            found,
            headless=headless,
            json=json,
            detach=detach,
            lite=lite,
            ascii_only=ascii_only,
        )
    )


def go_on(
    run: RunDirectory,
    *,
    headless: bool,
    json: bool,
    detach: bool,
    lite: bool,
    ascii_only: bool,
) -> int:
    """Resume a run and return the exit code; a run that came to its end gives the code it had."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.launching import (
        finished_exit_code,
        play_in_console,
        start_detached,
        wait_until_started,
        work_here,
    )

    code = finished_exit_code(run)
    if code is not None:
        print(f"{run.id} came to its end already (exit {code}); nothing to resume", file=sys.stderr)
        return code
    if detach:
        wait_until_started(run, start_detached(run), created=False)
        print(run.id)
        return 0
    if headless:
        return work_here(run, json=json, created=False)
    return play_in_console(run, created=False, lite=lite, ascii_only=ascii_only)
