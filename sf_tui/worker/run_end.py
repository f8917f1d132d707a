"""Start and end of a run, trained by a worker or a host: ownership, unread commands, guards."""

from __future__ import annotations

import os
import platform
import socket

import psutil
import torch
import transformers

from sf_tui import __version__
from sf_tui.errors import UsageError
from sf_tui.profile.names import REPLAY_STAGE
from sf_tui.run.directory import RunDirectory
from sf_tui.vocabulary.commands import REFUSED, Command
from sf_tui.worker.context import RunContext
from sf_tui.worker.rules import failed_guards

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


def refuse_commands(context: RunContext, reason: str) -> None:
    """Refuse all unanswered commands, which will not be executed."""
    for line in context.commands.poll():
        command = Command.from_line(line)
        if command.id not in context.resume_log.commands:
            command.arguments = {}
            context.log_event(command.answer(REFUSED, reason))


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
