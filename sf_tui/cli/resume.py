"""`sf resume`: go on with a run that was stopped, failed or killed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sf_tui.cli.output import write_line
from sf_tui.errors import UsageError

if TYPE_CHECKING:
    from sf_tui.run.directory import RunDirectory

# Of many keys that differ, the first ones say enough.
_MOST_TOLD = 12

AcceptChangedData = Annotated[
    bool,
    typer.Option(
        "--accept-changed-data",
        help="Go on although data or model files have changed since the run began.",
    ),
]


def resume(
    run: Annotated[str, typer.Argument(help="A run's id, a prefix of it, `last`, or a directory.")],
    no_ui: Annotated[
        bool, typer.Option("--no-ui", help="Run without the console (scripts, schedulers).")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the events to stdout (implies --no-ui).")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start the worker and return.")] = False,
    accept_changed_data: AcceptChangedData = False,
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

        write_line(repair_before_resume(found), err=True)
    raise typer.Exit(
        go_on(
            found,
            accept_changed_data=accept_changed_data,
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
    accept_changed_data: bool,
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
        take_stop_signals,
        wait_until_started,
        work_here,
    )

    code = finished_exit_code(run)
    if code is not None:
        write_line(f"{run.id} came to its end already (exit {code}); nothing to resume", err=True)
        return code
    if detach:
        wait_until_started(run, start_detached(run, accept_changed_data), created=False)
        write_line(run.id)
        return 0
    if headless:
        return work_here(
            run,
            take_stop_signals(),
            json=json,
            created=False,
            accept_changed_data=accept_changed_data,
        )
    return play_in_console(
        run,
        created=False,
        lite=lite,
        ascii_only=ascii_only,
        accept_changed_data=accept_changed_data,
    )


def refuse_other_profile(
    run: RunDirectory, profile: str | None, overrides: Sequence[str], seed: int | None
) -> None:
    """Refuse to go on with a run under another profile than it was begun with.

    Args:
        run: the run.
        profile: what the command names; None: the run's own.
        overrides: the command's `--set`.
        seed: the command's `--seed`.

    Raises:
        UsageError: a key differs; the message gives each with both values.
        ProfileError: the command's profile or a value can't be read.
    """
    if profile is None and not overrides and seed is None:
        return
    # Deferred: pydantic and the profile package take a tenth of a second.
    from sf_tui.profile import load_profile
    from sf_tui.profile.write import differences

    own = load_profile(run.profile)
    asked = load_profile(profile if profile is not None else run.profile, overrides, seed)
    found = differences(own, asked)
    if not found:
        return
    lines = [f"{one.key}: the run has {one.ours}, the command says {one.theirs}" for one in found]
    if len(lines) > _MOST_TOLD:
        lines[_MOST_TOLD:] = [f"… and {len(lines) - _MOST_TOLD} more"]
    first = f"{run.path}: a run goes on with the profile that it was begun with"
    raise UsageError(
        "\n  ".join([first, *lines]),
        f"`sf resume {run.path}` goes on with the run as it is; for other settings start another "
        "run with another --run-dir",
    )
