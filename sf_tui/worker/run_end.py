"""Start and end of a run, trained by a worker or a host: ownership, unread commands, guards."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable, Container, Iterable
from dataclasses import replace

import psutil
import torch
import transformers

from sf_tui import __version__
from sf_tui.errors import UsageError
from sf_tui.profile.names import REPLAY_STAGE
from sf_tui.run.directory import RunDirectory
from sf_tui.vocabulary.commands import REFUSED, Command
from sf_tui.vocabulary.events import CommandAnswered
from sf_tui.vocabulary.ops import op_named
from sf_tui.worker.context import RunContext
from sf_tui.worker.inbox import CommandInbox
from sf_tui.worker.rules import failed_guards

_NO_WORKER = "no worker was running to read it; send it again"

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_GUARD = 4
EXIT_STOPPED = 5


class TrainedByHostError(UsageError):
    """A worker is asked to continue a run that another program trains.

    Args:
        run: the run's id.
        host: the program.
    """

    def __init__(self, run: str, host: str) -> None:
        super().__init__(
            f"{run}: {host} trains this run, so sf can't continue it",
            "start that training again with its own way to resume; the run then goes on",
        )


def claim_run(run: RunDirectory, *, peft: str | None = None, **more: str) -> None:
    """Record in `run.json` that this process now owns a run.

    Args:
        run: the run; the caller holds its lock.
        peft: the version of peft, if an adapter trains.
        more: further facts.
    """
    run.claim(
        {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_started": psutil.Process().create_time(),
            "versions": {
                "sf": __version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                **({"peft": peft} if peft is not None else {}),
            },
            **more,
        }
    )


def open_inbox(run: RunDirectory) -> CommandInbox:
    """Return the inbox of the process that owns a run from now on; call it before `claim_run`.

    The first owner's has every command since the run directory was made, a later one's those from
    now on: what was asked of a process that is gone may not be wanted any more.
    """
    is_first = "pid" not in run.read_run_json()
    size = run.commands.stat().st_size if run.commands.exists() else 0
    return CommandInbox(run.commands, 0 if is_first else size)


def settle_earlier_commands(context: RunContext, *, begun: bool) -> None:
    """Keep or refuse the commands that were sent before this process owned the run.

    Before a run's first step nothing has changed since they were sent, so those that change the
    training are kept. One that acts at once, such as a stop, was for the process that is gone.

    Args:
        context: the run.
        begun: whether an earlier process began it.
    """
    known = context.resume_log.commands
    unread = [one for one in context.commands.read_earlier() if one.id not in known]
    actions = context.profile.actions
    kept = [
        command
        for command in unread
        if not begun
        and command.action in actions
        and not op_named(actions[command.action].op).interrupts
    ]
    context.commands.keep(kept)
    _refuse(context.log_event, [one for one in unread if one not in kept], _NO_WORKER)


def refuse_commands(context: RunContext, reason: str) -> None:
    """Refuse all unanswered commands, which will not be executed."""
    known = context.resume_log.commands
    _refuse(context.log_event, context.commands.waiting(lambda one: one.id in known), reason)


def refuse_unread(
    inbox: CommandInbox,
    known: Container[str],
    log_event: Callable[[CommandAnswered], object],
    reason: str,
) -> None:
    """Refuse all commands of a process that ends before it has begun.

    Args:
        inbox: its inbox.
        known: ids of the commands that were read before.
        log_event: logs an event.
        reason: why it ends.
    """
    unread = [*inbox.read_earlier(), *inbox.waiting(lambda _: False)]
    _refuse(log_event, (one for one in unread if one.id not in known), reason)


def _refuse(
    log_event: Callable[[CommandAnswered], object], commands: Iterable[Command], reason: str
) -> None:
    for command in commands:
        # Their arguments were never checked.
        log_event(replace(command, arguments={}).answer(REFUSED, reason))


def missed_guards(context: RunContext) -> list[str]:
    """Return a sentence for each `[guard]` bound that the last probe misses."""
    profile = context.profile
    trained = [s.task for s in profile.stages() if s.name != REPLAY_STAGE]
    new = trained[-1] if trained else profile.tasks[-1].name
    values = {
        name: measures[context.prepared.tasks[name].metric]
        for name, measures in context.accuracy.items()
    }
    old = [name for name in profile.watched_tasks() if name != new and name in values]
    guard = profile.guard
    if new not in values:
        # The rows of another program's task may be unknown: it isn't scored.
        guard = guard.model_copy(update={"new_accuracy": None})
    return failed_guards(guard, values, old=old, new=new)
