"""`sf attach` and `sf watch`: the console of a run, live or finished.

Leaving the console never ends a run: the worker is a separate process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from sf_tui.cli.complete import complete_run
from sf_tui.cli.options import opens_console
from sf_tui.cli.output import write_line
from sf_tui.errors import UsageError

if TYPE_CHECKING:
    from sf_tui.run.directory import RunDirectory
    from sf_tui.tui.terminal import ConsoleOptions


@opens_console
def attach(
    run: Annotated[
        str | None,
        typer.Argument(
            help="Open this run: id, prefix, `last` or directory; omit to choose from a list.",
            autocompletion=complete_run,
        ),
    ] = None,
    *,
    console: ConsoleOptions,
) -> None:
    """Open the console of a run; without RUN, choose one from a list."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import find_run

    found = choose_run(console) if run is None else find_run(run)
    if found is None:
        return
    raise typer.Exit(attach_to(found, console))


@opens_console
def watch(
    run: Annotated[
        str,
        typer.Argument(
            help="Watch this run: an id, a prefix, `last` or a directory.",
            autocompletion=complete_run,
        ),
    ],
    *,
    console: ConsoleOptions,
) -> None:
    """Open the console of a run read-only: it sends nothing to the run."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import find_run

    raise typer.Exit(attach_to(find_run(run), replace(console, read_only=True)))


def attach_to(
    run: RunDirectory,
    options: ConsoleOptions,
    worker_ended: Callable[[], bool] | None = None,
) -> int:
    """Show a run until the operator leaves.

    Args:
        run: the run.
        options: of the console.
        worker_ended: returns whether the process of a worker that was just started has ended.

    Returns:
        0, or 75, 130 or 1 if the operator did not close the console. With `worker_ended` also the
        exit code of a run that ended in the meantime, and -1 for a run that did not start.

    Raises:
        RunError: the directory is not a run, or was written by a newer version.
        UsageError: there is no terminal.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.liveness import last_event_type
    from sf_tui.tui.session import closing_message, open_console
    from sf_tui.vocabulary.events import RunFinished

    run.read_run_json()
    offset = run.events.stat().st_size if run.events.exists() else 0
    code = open_console(run, options, worker_ended=worker_ended)
    if code >= 0:
        write_line(closing_message(run, code), err=True)
    if code == 0 and last_event_type(run) == RunFinished.TYPE and run.model.is_dir():
        # Deferred: a console that is left early must not wait for it.
        from sf_tui.cli.narration import model_lines

        for line in model_lines(run):
            write_line(line, err=True)
    return code or (_exit_code_since(run, offset) if worker_ended is not None else 0)


def choose_run(options: ConsoleOptions) -> RunDirectory | None:
    """Let the operator choose a run from a list; None if they choose none.

    Raises:
        UsageError: there is no terminal or no run.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import list_runs, runs_home
    from sf_tui.tui.session import pick_run, require_terminal

    if not list_runs():
        raise UsageError(f"no runs in {runs_home()}", "`sf run` starts one")
    require_terminal("name the run: `sf attach RUN`; `sf runs` lists them")
    return pick_run(options)


def _exit_code_since(run: RunDirectory, offset: int) -> int:
    """Return the exit code of a run that ended after `offset` in its log; 0 while it runs."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.events import EventTail
    from sf_tui.run.liveness import last_event_type
    from sf_tui.vocabulary.events import RunFinished

    if last_event_type(run) != RunFinished.TYPE:
        return 0
    code = 0
    for event in EventTail(run.events, offset).iterate():
        if isinstance(event, RunFinished):
            code = event.exit_code
    return code
