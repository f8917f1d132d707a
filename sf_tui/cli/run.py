"""`sf run` and `sf resume`: run a profile with the console, detached, or in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sf_tui.cli.complete import complete_profile, complete_run
from sf_tui.cli.options import NewRunDir, Seed, SetValues, opens_console
from sf_tui.cli.output import write_line
from sf_tui.errors import UsageError

if TYPE_CHECKING:
    from sf_tui.engine.process_ranks import ProcessRanks
    from sf_tui.profile import Profile
    from sf_tui.run.directory import RunDirectory
    from sf_tui.tui.terminal import ConsoleOptions

DEFAULT_PROFILE = "biography-mini"

_MOST_DIFFERENCES = 12

NoUi = Annotated[bool, typer.Option("--no-ui", help="Run in the foreground, without the console.")]
JsonEvents = Annotated[
    bool, typer.Option("--json", help="Print the events to stdout (implies --no-ui).")
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Start the worker, wait until it runs, print the run's id.")
]
AcceptChangedData = Annotated[
    bool,
    typer.Option(
        "--accept-changed-data", help="Continue although data or model files have changed."
    ),
]


@opens_console
def run(
    profile: Annotated[
        str | None,
        typer.Argument(
            help=f"Run this built-in profile or TOML file; default: {DEFAULT_PROFILE}.",
            autocompletion=complete_profile,
        ),
    ] = None,
    no_ui: NoUi = False,
    json: JsonEvents = False,
    detach: Detach = False,
    run_dir: NewRunDir = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the run in --run-dir if there is one."),
    ] = False,
    accept_changed_data: AcceptChangedData = False,
    set_: SetValues = None,
    seed: Seed = None,
    note: Annotated[str, typer.Option("--note", help="Write a note on the run.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Tag the run; repeatable.")] = None,
    *,
    console: ConsoleOptions,
) -> None:
    """Tune a model on one task after another and watch the old ones."""
    if resume and run_dir is None:
        raise UsageError("--resume needs --run-dir", "or name the run: `sf resume RUN`")
    if detach and (no_ui or json):
        raise UsageError(
            "--detach and --no-ui exclude each other",
            "`sf show RUN --json` and `sf attach RUN` show a detached run",
        )
    # Deferred: pydantic and the profile package take a tenth of a second.
    from sf_tui.cli.launching import (
        play_in_console,
        start_detached,
        take_stop_signals,
        wait_until_started,
        work_here,
    )
    from sf_tui.cli.ranks import processes_of
    from sf_tui.profile import dump_profile, load_profile
    from sf_tui.run.directory import RunDirectory, new_run_id, runs_home
    from sf_tui.run.labels import checked_labels, write_labels
    from sf_tui.worker.launched import is_launched

    labels = checked_labels(note, tag or ())

    def find_begun() -> RunDirectory | None:
        if not resume or run_dir is None or not (run_dir / "run.json").exists():
            return None
        begun = RunDirectory(run_dir.absolute())
        refuse_other_profile(begun, profile, set_ or (), seed)
        return begun

    def load() -> Profile:
        return load_profile(profile or DEFAULT_PROFILE, set_ or (), seed, files=True)

    def create(loaded: Profile) -> RunDirectory:
        made = RunDirectory.create(
            run_dir or runs_home() / new_run_id(loaded.name),
            profile_text=dump_profile(loaded),
            profile_name=loaded.name,
            argv=sys.argv,
        )
        if note or tag:
            write_labels(made.path, labels)
        return made

    if is_launched(os.environ):
        if detach:
            raise UsageError(
                "--detach under a launcher: it waits for its processes", "leave it out"
            )

        def find() -> RunDirectory:
            return find_begun() or create(load())

        raise typer.Exit(_run_as_rank(find, json=json, accept_changed_data=accept_changed_data))
    foreground = _foreground(no_ui or json, detach=detach)
    existing = find_begun()
    if existing is not None:
        raise typer.Exit(
            resume_run(
                existing,
                accept_changed_data=accept_changed_data,
                foreground=foreground,
                json=json,
                detach=detach,
                options=console,
            )
        )
    loaded = load()
    processes = processes_of(loaded)
    signals = take_stop_signals() if foreground is not None and not detach else None
    created = create(loaded)
    if detach:
        started = start_detached(created, processes=processes)
        wait_until_started(created, started, created=True)
        write_line(str(created.path if run_dir else created.id))
        return
    if signals is not None:
        _note_foreground(foreground or "")
        raise typer.Exit(work_here(created, signals, json=json, created=True, processes=processes))
    raise typer.Exit(play_in_console(created, created=True, options=console, processes=processes))


def _run_as_rank(find: Callable[[], RunDirectory], *, json: bool, accept_changed_data: bool) -> int:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.launching import finished_exit_code, take_stop_signals, work_here
    from sf_tui.cli.ranks import work_as_rank

    signals = take_stop_signals()

    def work(run: RunDirectory, ranks: ProcessRanks) -> int:
        code = finished_exit_code(run) if run.events.exists() else None
        if code is not None:
            write_line(f"{run.id} is completed (exit {code}): no steps are left", err=True)
            ranks.end(code)
            return code
        return work_here(
            run,
            signals,
            json=json,
            created=not run.events.exists(),
            accept_changed_data=accept_changed_data,
            ranks=ranks,
        )

    return work_as_rank(find, signals, work)


@opens_console
def resume(
    run: Annotated[
        str,
        typer.Argument(
            help="Continue this run: an id, a prefix, `last` or a directory.",
            autocompletion=complete_run,
        ),
    ],
    no_ui: NoUi = False,
    json: JsonEvents = False,
    detach: Detach = False,
    accept_changed_data: AcceptChangedData = False,
    *,
    console: ConsoleOptions,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            min=1,
            metavar="N",
            help="Train in N processes; default: the profile's \\[launch] processes.",
        ),
    ] = None,
    repair_log: Annotated[
        bool,
        typer.Option("--repair-log", help="Remove damaged lines from the event log first."),
    ] = False,
) -> None:
    """Continue a stopped, failed or killed run from its last checkpoint."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import find_run
    from sf_tui.worker.launched import is_launched

    if is_launched(os.environ):
        raise typer.Exit(
            _run_as_rank(lambda: find_run(run), json=json, accept_changed_data=accept_changed_data)
        )
    if detach and (no_ui or json):
        raise UsageError("--detach and --no-ui exclude each other", "choose one")
    found = find_run(run)
    if repair_log:
        # Deferred: launching imports the worker's modules.
        from sf_tui.cli.launching import repair_before_resume

        # Deferred: not needed for `sf --help`.
        from sf_tui.run.hosted import host_name, way_on

        write_line(repair_before_resume(found), err=True)
        if host_name(found):
            write_line(f"{found.id}: {way_on(found)}", err=True)
            raise typer.Exit(0)
    raise typer.Exit(
        resume_run(
            found,
            accept_changed_data=accept_changed_data,
            foreground=_foreground(no_ui or json, detach=detach),
            json=json,
            detach=detach,
            options=console,
            processes=processes,
        )
    )


def _foreground(asked: bool, *, detach: bool) -> str | None:
    """Return None if the console opens, else why it doesn't; empty if that needs no note."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.tui.terminal import missing_for_console

    if asked or detach:
        return "" if asked else None
    return missing_for_console(os.environ, stdout=True) or None


def _note_foreground(why: str) -> None:
    if why:
        write_line(f"{why}: running in the foreground, as with --no-ui", err=True)


def resume_run(
    run: RunDirectory,
    *,
    accept_changed_data: bool,
    foreground: str | None,
    json: bool,
    detach: bool,
    options: ConsoleOptions,
    processes: int | None = None,
) -> int:
    """Continue a run and return its exit code; a completed run returns its earlier exit code.

    Args:
        run: the run.
        accept_changed_data: continue although files outside the run have changed.
        foreground: from `_foreground`.
        json: print the events to stdout.
        detach: start the worker and return.
        options: of the console.
        processes: number of processes that train; None: the profile's.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.launching import (
        finished_exit_code,
        play_in_console,
        start_detached,
        take_stop_signals,
        wait_until_started,
        work_here,
    )
    from sf_tui.cli.ranks import processes_of
    from sf_tui.profile import load_profile

    code = finished_exit_code(run)
    if code is not None:
        write_line(f"{run.id} is completed (exit {code}): no steps are left", err=True)
        return code
    if processes is None:
        processes = processes_of(load_profile(run.profile))
    if detach:
        started = start_detached(run, accept_changed_data, processes=processes)
        wait_until_started(run, started, created=False)
        write_line(run.id)
        return 0
    if foreground is not None:
        _note_foreground(foreground)
        return work_here(
            run,
            take_stop_signals(),
            json=json,
            created=False,
            accept_changed_data=accept_changed_data,
            processes=processes,
        )
    return play_in_console(
        run,
        created=False,
        options=options,
        accept_changed_data=accept_changed_data,
        processes=processes,
    )


def refuse_other_profile(
    run: RunDirectory, profile: str | None, overrides: Sequence[str], seed: int | None
) -> None:
    """Refuse to resume a run under a profile other than its own.

    Args:
        run: the run.
        profile: the profile given on the command line; None: the run's own.
        overrides: the command line's `--set`.
        seed: the command line's `--seed`.

    Raises:
        UsageError: a key differs; the message lists each with both values.
        ProfileError: the given profile or a value can't be read.
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
    lines = [f"{one.key}: the run has {one.ours}, the command {one.theirs}" for one in found]
    if len(lines) > _MOST_DIFFERENCES:
        lines[_MOST_DIFFERENCES:] = [f"… and {len(lines) - _MOST_DIFFERENCES} more"]
    first = f"{run.path}: a run can only be continued with the profile that it started with"
    raise UsageError(
        "\n  ".join([first, *lines]),
        f"`sf resume {run.path}` continues it unchanged; for other settings start another run with "
        "another --run-dir",
    )
