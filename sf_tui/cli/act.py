"""`sf act` and `sf stop`: send an action to a running worker and print its answer."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sf_tui.cli.complete import complete_action, complete_run
from sf_tui.cli.output import write_json, write_line
from sf_tui.errors import UsageError


def act(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Ask this run's worker: an id, a prefix, `last` or a directory.",
            autocompletion=complete_run,
        ),
    ],
    action: Annotated[
        str,
        typer.Argument(
            metavar="ACTION",
            help="Take this action of the run's profile, such as freeze.",
            autocompletion=complete_action,
        ),
    ],
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="COMMAND",
            show_default=False,
            help="For cancel: an id, an action or `all`; default: what is under way, or all that "
            "waits.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override an argument, such as layers=3; default: the action's.",
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            help="Wait this long until the worker accepts it; 0: don't wait at all.",
        ),
    ] = 60.0,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0,
            help="Give up after this long, with exit code 124; default: wait until it is done.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as an event.")] = False,
) -> None:
    """Ask a running worker for an action, and wait until it is done.

    Actions are for example freeze, anchor, diagnose, recover and rollback. Giving up doesn't
    cancel the action: the worker continues with it. `sf act RUN cancel` ends a diagnosis, a
    repair or an anchor under way, with the run as it was, or drops the commands that wait.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.waiting import Patience, send_and_wait
    from sf_tui.profile import load_profile
    from sf_tui.run.directory import find_run
    from sf_tui.vocabulary.events import event_object
    from sf_tui.vocabulary.ops import CANCEL, OPS

    found = find_run(run)
    chosen = load_profile(found.profile).action(action)
    arguments = _read_arguments(set_ or [])
    if which is not None:
        if chosen.op != CANCEL:
            raise UsageError(
                f"{which}: {action} takes no such argument", "give arguments with --set KEY=VALUE"
            )
        arguments["command"] = which
    chosen.arguments(arguments)
    patience = Patience(wait, _narrate, timeout)
    answer = send_and_wait(found, action, arguments, patience, after_end=OPS[chosen.op].after_end)
    if answer is None:
        write_line(f"{action} requested", err=True)
        return
    if json:
        write_json(event_object(answer))
    reason = f": {answer.reason}" if answer.reason else ""
    at = f" @{answer.step}" if answer.step is not None else ""
    write_line(f"{action} {answer.status}{at}{reason}", err=True)
    if answer.status in {"refused", "failed", "cancelled"}:
        raise typer.Exit(1)


def _narrate(text: str) -> None:
    write_line(text, err=True)


def _read_arguments(texts: list[str]) -> dict[str, Any]:
    # Deferred: not needed for `sf --help`.
    import tomli

    arguments: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {text}: no KEY=VALUE", "for example --set layers=3")
        try:
            arguments[key.strip()] = tomli.loads(f"value = {value}")["value"]
        except tomli.TOMLDecodeError:
            arguments[key.strip()] = value
    return arguments


def stop(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Stop this run: an id, a prefix, `last` or a directory.",
            autocompletion=complete_run,
        ),
    ],
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            help="Give up after this long, with exit code 124; 0: don't wait at all.",
        ),
    ] = 300.0,
) -> None:
    """Stop a run at its next step: checkpoint and final model; `sf resume` continues it.

    Exits with 0, also if the run has ended already; the stopped run itself exits with 5.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.target import run_name
    from sf_tui.cli.waiting import Patience, send_and_wait
    from sf_tui.errors import RunError
    from sf_tui.profile import load_profile
    from sf_tui.run.directory import find_run
    from sf_tui.run.hosted import host_name
    from sf_tui.run.liveness import WorkerState, end_status, probe_liveness
    from sf_tui.run.next_steps import what_next, why_no_worker

    found = find_run(run)
    name, state = run_name(found), probe_liveness(found).state
    if state is WorkerState.FINISHED:
        status = end_status(found)
        write_line(f"{why_no_worker(name, state, status)} already", err=True)
        write_line(f"  {what_next(name, status, host_name(found))}", err=True)
        return
    profile = load_profile(found.profile)
    actions = profile.actions
    stopping = next(name for name, action in actions.items() if action.op == "stop")
    answer = send_and_wait(found, stopping, {}, Patience(wait, _narrate, wait))
    if answer is not None and answer.status != "done":
        raise RunError(f"{name}: not stopped: {answer.reason}", f"see `sf show {name}`")
    done = "stopped" if answer is not None else "stop requested"
    way_on = f"`sf resume {name}` continues it"
    if profile.host is not None:
        way_on = f"{profile.host.name}'s own resume continues it"
    write_line(f"{name}: {done}; {way_on}", err=True)
