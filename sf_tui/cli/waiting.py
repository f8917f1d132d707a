"""Sending a command to a run's worker and waiting for its answers.

The worker's first answer is expected soon, its last one whenever the work is done: a repair of a
large model takes as long as it takes. Ends early only if the worker does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sf_tui.cli.target import run_name
from sf_tui.errors import RunError
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventTail
from sf_tui.run.hosted import host_name
from sf_tui.run.liveness import WorkerState, end_status, probe_liveness
from sf_tui.run.next_steps import what_instead, why_no_worker
from sf_tui.tui.operation_words import ProgressLines
from sf_tui.vocabulary.commands import ACCEPTED
from sf_tui.vocabulary.events import CommandAnswered, OperationProgress
from sf_tui.vocabulary.ops import CANCEL

POLL_EVERY_S = 0.05
PROGRESS_EVERY_S = 10.0
"""Seconds between two lines about work in progress."""
_GONE = (WorkerState.FINISHED, WorkerState.DEAD)


class ActionTimeoutError(RunError):
    """The worker did not finish an action within `--timeout`; it continues with it."""

    exit_code = 124


@dataclass
class Patience:
    """How long to wait, and where progress is reported.

    Attributes:
        accept_s: seconds until the worker must have accepted the command; 0: don't wait at all.
        log: receives lines about work in progress.
        finish_s: seconds until it must be done; None: however long the worker takes.
        cancels: whether Ctrl-C also ends the command in the worker.
        clock: monotonic seconds.
    """

    accept_s: float
    log: Callable[[str], None]
    finish_s: float | None = None
    cancels: bool = False
    clock: Callable[[], float] = time.monotonic


def send_and_wait(
    run: RunDirectory,
    action: str,
    arguments: dict[str, Any],
    patience: Patience,
    *,
    after_end: str = "",
) -> CommandAnswered | None:
    """Send a command and return the event that ends it; None if nothing is waited for.

    Args:
        run: the run.
        action: an action of its profile.
        arguments: of the action's op.
        patience: how long to wait.
        after_end: the command line that does the same to a run without a worker.

    Raises:
        ActionTimeoutError: it was not done within `finish_s`.
        RunError: there is no worker, it did not accept the command in time, or it ended first.
    """
    state = probe_liveness(run).state
    if state in _GONE:
        raise _no_worker_error(run, state, action, after_end)
    tail = EventTail(run.events, offset=run.events.stat().st_size if run.events.exists() else 0)
    identity = request_command(run, action, arguments)
    if patience.accept_s <= 0:
        return None
    try:
        return _wait_for_answer(run, action, identity, tail, patience)
    except KeyboardInterrupt:
        _interrupted(run, action, identity, patience)
        raise


def _interrupted(run: RunDirectory, action: str, identity: str, patience: Patience) -> None:
    """End the command in the worker, or say how that is done."""
    if patience.cancels:
        request_command(run, CANCEL, {"command": identity})
        patience.log(f"{action}: cancelled; the run goes on as it was")
    else:
        command = f"`sf act {run_name(run)} {CANCEL} {identity}`"
        patience.log(f"{action}: the worker continues with it; {command} ends it")


def _wait_for_answer(
    run: RunDirectory, action: str, identity: str, tail: EventTail, patience: Patience
) -> CommandAnswered:
    begun = unanswered_since = patience.clock()
    accepted, reported = False, 0.0
    lines, behind = ProgressLines(patience.clock), ProgressLines(patience.clock)
    if _is_starting(run):
        patience.log(f"{action}: kept for the first step; the worker is starting")
    while True:
        # The liveness before the events: a worker answers before it ends.
        gone = probe_liveness(run).state in _GONE
        for event in tail.poll():
            if isinstance(event, OperationProgress) and event.id == identity:
                reported = patience.clock() - begun
                text = lines.event_line(event)
                if text:
                    patience.log(f"{action}: {text}")
            elif isinstance(event, OperationProgress) and not accepted and not event.beside:
                # It waits for another one, however long that takes.
                unanswered_since = patience.clock()
                text = behind.line(event)
                if text:
                    patience.log(f"{action}: waits until {event.op} is done: {text}")
            if not isinstance(event, CommandAnswered) or event.id != identity:
                continue
            if event.status != ACCEPTED:
                return event
            accepted = True
        if gone:
            name = run_name(run)
            raise RunError(
                f"{name}: the worker ended before {action} was "
                f"{'done' if accepted else 'accepted'}",
                f"`sf show {name}` shows how it ended",
            )
        waited = patience.clock() - begun
        if patience.finish_s is not None and waited > patience.finish_s:
            raise ActionTimeoutError(
                f"{run.id}: {action} not done within {patience.finish_s:g} s",
                "the worker continues with it; `sf show` and `sf attach` show the result"
                if accepted
                else "it is queued and may still be carried out; see `sf show`",
            )
        if not accepted and patience.clock() - unanswered_since > patience.accept_s:
            raise RunError(
                f"{run.id}: {action} not answered within {patience.accept_s:g} s",
                "the worker is still starting and carries it out at its first step"
                if _is_starting(run)
                else "it is queued and may still be carried out; see `sf show`",
            )
        if accepted and waited - reported >= PROGRESS_EVERY_S:
            reported = waited
            patience.log(f"{action} accepted, not done yet after {waited:.0f} s")
        time.sleep(POLL_EVERY_S)


def _is_starting(run: RunDirectory) -> bool:
    """Return whether the run's first worker has not written an event yet: it loads the model."""
    return not run.events.exists() or run.events.stat().st_size == 0


def _no_worker_error(
    run: RunDirectory, state: WorkerState, action: str, after_end: str
) -> RunError:
    name, status = run_name(run), end_status(run)
    return RunError(
        f"{why_no_worker(name, state, status)}: no worker can {action}",
        what_instead(name, status, after_end, host_name(run)),
    )
