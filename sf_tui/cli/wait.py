"""`sf wait`: wait until runs end; the exit code is the run's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.complete import complete_run
from sf_tui.cli.output import ring, write_json, write_line
from sf_tui.errors import RunError

if TYPE_CHECKING:
    from sf_tui.run.directory import RunDirectory

POLL_EVERY_S = 0.2
DIED = 6
"""Exit code for a worker that died: a run of its own never ends with it."""


class WaitTimeoutError(RunError):
    """A run did not end within `--timeout`; nothing happens to it."""

    exit_code = 124


def wait(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN…",
            help="Wait for these runs: ids, names, prefixes, `last` or directories.",
            autocompletion=complete_run,
        ),
    ],
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0,
            help="Give up after this long, with exit code 124; default: wait until they end.",
        ),
    ] = None,
    bell: Annotated[
        bool,
        typer.Option(
            "--bell",
            help="Ring the bell at warnings and at each end; default: the profile's.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list at the end.")] = False,
) -> None:
    """Wait until runs end, and exit with the run's own exit code.

    With several runs it waits for all and exits with the first code, in the order given, that
    is not 0. A worker that died leaves no exit code: then it is 6, and `sf resume` continues the
    run. For example: `sf run mine.toml --detach && sf wait last && ./publish`.
    """
    # Deferred: not needed for `sf --help`.
    import time

    from sf_tui.cli.target import run_name
    from sf_tui.run.bell import Bell, wants_bell
    from sf_tui.run.directory import find_run

    # `--timeout` counts from here, and a prefix means the same run until the end.
    waited = {found.path: found for found in map(find_run, runs)}
    bells = [Bell(run) for run in waited.values() if bell or wants_bell(run)]
    ended: dict[Any, dict[str, Any]] = {}
    begun = time.monotonic()
    while True:
        for path, run in waited.items():
            if path not in ended and (end := end_of(run)) is not None:
                ended[path] = end
                write_line(_told(run_name(run), end), err=True)
                if bells and end["state"] == "dead":
                    ring()
        if any([each.poll() for each in bells]):
            ring()
        if len(ended) == len(waited):
            break
        if timeout is not None and time.monotonic() - begun >= timeout:
            going = [run_name(run) for path, run in waited.items() if path not in ended]
            if json:
                write_json([ended[path] for path in waited if path in ended])
            raise WaitTimeoutError(
                f"{', '.join(going)}: not ended within {timeout:g} s",
                "nothing was stopped; `sf wait` can wait again",
            )
        time.sleep(POLL_EVERY_S)
    found = [ended[path] for path in waited]
    if json:
        write_json(found)
    raise typer.Exit(next((end["exit_code"] for end in found if end["exit_code"]), 0))


def end_of(run: RunDirectory) -> dict[str, Any] | None:
    """Return how a run ended; None while it has a worker or waits for its first one.

    Returns:
        `run`, `path`, `state` (a status of `run_finished`, or `dead`), `exit_code` and `reason`.

    Raises:
        RunNotFoundError: the directory is gone.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.errors import RunNotFoundError
    from sf_tui.run.liveness import WorkerState, end_event, probe_liveness

    if not run.path.is_dir():
        raise RunNotFoundError(f"{run.path}: the run is gone", "it was deleted meanwhile")
    state = probe_liveness(run).state
    if state not in (WorkerState.FINISHED, WorkerState.DEAD):
        return None
    status, code, reason = "dead", DIED, None
    if state is WorkerState.FINISHED:
        event = end_event(run)
        if event is None:
            # It was resumed at this instant.
            return None
        status, code, reason = event
    return {
        "run": run.id,
        "path": str(run.path),
        "state": status,
        "exit_code": code,
        "reason": reason,
    }


def _told(name: str, end: dict[str, Any]) -> str:
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import RunDirectory
    from sf_tui.run.hosted import way_on

    if end["state"] == "dead":
        return f"{name}: its worker died; {way_on(RunDirectory(Path(end['path'])), name)}"
    reason = f": {end['reason']}" if end["reason"] else ""
    return f"{name}: {end['state']} (exit {end['exit_code']}){reason}"
