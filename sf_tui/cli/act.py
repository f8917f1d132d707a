"""`sf act` and `sf stop`: send an action to a running worker and print its answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.output import write_json, write_line
from sf_tui.errors import RunError, UsageError
from sf_tui.vocabulary.ops import OPS

if TYPE_CHECKING:
    from sf_tui.run.directory import RunDirectory
    from sf_tui.vocabulary.events import CommandAnswered


def complete_action(incomplete: str) -> list[tuple[str, str]]:
    """Return the default actions with this prefix and their help, for shell completion."""
    return [(op.name, op.help) for op in OPS.values() if op.name.startswith(incomplete)]


def act(
    run: Annotated[
        str, typer.Argument(help="Ask this run's worker: an id, a prefix, `last` or a directory.")
    ],
    action: Annotated[
        str,
        typer.Argument(
            help="Take this action of the run's profile, such as freeze.",
            autocompletion=complete_action,
        ),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override an argument, such as layers=3; default: the action's.",
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option("--wait", help="Wait this many seconds for the answer; 0: don't wait.")
    ] = 60.0,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as an event.")] = False,
) -> None:
    """Ask a running worker for an action, such as freeze, anchor, diagnose, recover or rollback."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.profile import load_profile
    from sf_tui.run.directory import find_run

    found = find_run(run)
    chosen = load_profile(found.profile).action(action)
    arguments = _read_arguments(set_ or [])
    chosen.arguments(arguments)
    answer = send_and_wait(
        found, action, arguments, wait_s=wait, after_end=OPS[chosen.op].after_end
    )
    if answer is None:
        write_line(f"{action} requested", err=True)
        return
    if json:
        # Deferred: not needed for `sf --help`.
        from sf_tui.vocabulary.events import event_object

        write_json(event_object(answer))
    reason = f": {answer.reason}" if answer.reason else ""
    at = f" @{answer.step}" if answer.step is not None else ""
    write_line(f"{action} {answer.status}{at}{reason}", err=True)
    if answer.status in {"refused", "failed"}:
        raise typer.Exit(1)


def send_and_wait(
    run: RunDirectory,
    action: str,
    arguments: dict[str, Any],
    *,
    wait_s: float,
    after_end: str = "",
) -> CommandAnswered | None:
    """Send a command and return the event that ends it; None if `wait_s` is 0.

    Args:
        run: the run.
        action: an action of its profile.
        arguments: of the action's op.
        wait_s: how long to wait for the answer; 0 doesn't.
        after_end: the command line that does the same to a run that has ended.

    Raises:
        RunError: there is no worker, or it did not answer in time.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.commands import request_command
    from sf_tui.run.events import EventTail
    from sf_tui.run.liveness import WorkerState, probe_liveness
    from sf_tui.vocabulary.events import CommandAnswered

    state = probe_liveness(run).state
    if state in {WorkerState.FINISHED, WorkerState.DEAD}:
        way_on = f"`sf resume {run.id}` goes on with it"
        if state is WorkerState.FINISHED:
            now = after_end.format(run=run.id)
            way_on = f"`{now}` does that now" if now else f"{way_on} if steps are left"
        raise RunError(f"{run.id}: no worker is there to do it (the run is {state})", way_on)
    tail = EventTail(run.events, offset=run.events.stat().st_size if run.events.exists() else 0)
    identity = request_command(run, action, arguments)
    if wait_s <= 0:
        return None
    accepted = False
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        for event in tail.poll():
            if isinstance(event, CommandAnswered) and event.id == identity:
                if event.status != "accepted":
                    return event
                accepted = True
        if probe_liveness(run).state in {WorkerState.FINISHED, WorkerState.DEAD}:
            raise RunError(f"{run.id}: the worker ended before it answered", "see `sf show`")
        time.sleep(0.05)
    said = "accepted, but not done" if accepted else "not answered"
    raise RunError(
        f"{run.id}: {action} {said} within {wait_s:g} s",
        "it stands in the command log and may still be carried out; see `sf show`",
    )


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
        str, typer.Argument(help="Stop this run: an id, a prefix, `last` or a directory.")
    ],
    wait: Annotated[
        float, typer.Option("--wait", help="Wait this many seconds for the run to end.")
    ] = 300.0,
) -> None:
    """Stop a run at its next step: checkpoint, final model, exit code 5; resumable."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.act import send_and_wait
    from sf_tui.errors import RunError
    from sf_tui.profile import load_profile
    from sf_tui.run.directory import find_run

    found = find_run(run)
    actions = load_profile(found.profile).actions
    name = next(name for name, action in actions.items() if action.op == "stop")
    answer = send_and_wait(found, name, {}, wait_s=wait)
    if answer is not None and answer.status != "done":
        raise RunError(f"{found.id}: not stopped: {answer.reason}", "see `sf show`")
    write_line(f"{found.id} stopped; `sf resume {found.id}` goes on", err=True)
