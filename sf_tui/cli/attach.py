"""`sf attach` and `sf watch`: the console of a run that is going on or has ended.

Leaving the console never ends a run: the worker is a process of its own.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sf_tui.errors import RunError, SfError, UsageError

if TYPE_CHECKING:
    import subprocess

    from sf_tui.run.directory import RunDirectory

Lite = Annotated[bool, typer.Option("--lite", help="Fewer updates and no mouse: for slow links.")]
Ascii = Annotated[bool, typer.Option("--ascii", help="No braille and no line drawing.")]
Light = Annotated[bool, typer.Option("--light", help="Begin with the light theme.")]


def attach(
    run: Annotated[
        str | None,
        typer.Argument(help="A run's id, a prefix of it, `last`, or a directory; none: choose."),
    ] = None,
    lite: Lite = False,
    ascii_only: Ascii = False,
    light: Light = False,
) -> None:
    """Open the console of a run; without RUN, choose one from a list."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import find_run

    found = choose_run(ascii_only=ascii_only, light=light) if run is None else find_run(run)
    if found is None:
        return
    raise typer.Exit(
        attach_to(found, read_only=False, lite=lite, ascii_only=ascii_only, light=light)
    )


def watch(
    run: Annotated[str, typer.Argument(help="A run's id, a prefix of it, `last`, or a directory.")],
    lite: Lite = False,
    ascii_only: Ascii = False,
    light: Light = False,
) -> None:
    """Open the console of a run read-only: it sends nothing to the run."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import find_run

    raise typer.Exit(
        attach_to(find_run(run), read_only=True, lite=lite, ascii_only=ascii_only, light=light)
    )


def attach_to(
    run: RunDirectory, *, read_only: bool, lite: bool, ascii_only: bool, light: bool = False
) -> int:
    """Show a run until the operator leaves; return 0, or 75, 130 or 1 if it ended otherwise.

    Raises:
        RunError: the directory is no run, or of a newer version.
        UsageError: there is no terminal.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.tui.options import ConsoleOptions
    from sf_tui.tui.session import open_console, parting_word

    run.read_run_json()
    options = ConsoleOptions(read_only=read_only, lite=lite, ascii_only=ascii_only, light=light)
    code = open_console(run, options)
    print(parting_word(run, code), file=sys.stderr)
    return code


def attach_to_new(run: RunDirectory, *, lite: bool, ascii_only: bool, created: bool) -> int:
    """Start the worker of a run and show it at once.

    Args:
        run: the run.
        lite: fewer updates.
        ascii_only: no braille.
        created: the directory was made for this call, and goes again if nothing can be begun.

    Returns:
        The run's exit code if it ended while it was shown, else the console's.

    Raises:
        SfError: the run could not begin; the message is the worker's own.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.launching import start_detached
    from sf_tui.tui.options import ConsoleOptions
    from sf_tui.tui.session import open_console, parting_word, require_terminal

    require_terminal("`--no-ui` needs no terminal, `--detach` only starts the run")
    said_before = run.events.stat().st_size
    process = start_detached(run)
    code = open_console(
        run,
        ConsoleOptions(lite=lite, ascii_only=ascii_only),
        worker_ended=lambda: process.poll() is not None,
    )
    if code < 0:
        raise _why_not_begun(run, process, said_before, created=created)
    print(parting_word(run, code), file=sys.stderr)
    return code or _exit_code_of(run, said_before)


def choose_run(*, ascii_only: bool, light: bool) -> RunDirectory | None:
    """Let the operator choose a run from a list; None if they leave it.

    Raises:
        UsageError: there is no terminal, or no run.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import list_runs, runs_home
    from sf_tui.tui.options import ConsoleOptions
    from sf_tui.tui.session import pick_run, require_terminal

    if not list_runs():
        raise UsageError(f"no run yet in {runs_home()}", "`sf run` starts one")
    require_terminal("name the run: `sf attach RUN`; `sf runs` lists them")
    return pick_run(ConsoleOptions(ascii_only=ascii_only, light=light))


def _exit_code_of(run: RunDirectory, said_before: int) -> int:
    """Return the exit code of a run that has ended since; 0 while it goes on."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.events import EventTail
    from sf_tui.run.liveness import last_event_type

    if last_event_type(run) != "run_finished":
        return 0
    code = 0
    for event in EventTail(run.events, said_before).iterate():
        if event.get("type") == "run_finished":
            code = int(event.get("exit_code", 0))
    return code


def _why_not_begun(
    run: RunDirectory, process: subprocess.Popen[bytes], said_before: int, *, created: bool
) -> SfError:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.launching import failure_of
    from sf_tui.run.events import EventTail

    for event in EventTail(run.events, said_before).poll():
        if event["type"] == "run_finished":
            process.wait()
            return failure_of(run, event, created=created)
    said = run.worker_log.read_text(encoding="utf-8", errors="replace").strip()
    last = said.splitlines()[-1] if said else f"exit code {process.returncode}"
    return RunError(f"{run.path}: the worker ended at once: {last}", f"see {run.worker_log}")
