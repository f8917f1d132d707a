"""Forks a worker that plays a run and kills itself at one of its file operations."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.models.gpt_neox import modeling_gpt_neox

from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from support.fault_points import FaultPoints
from support.quick_run import Operator, events_of, work

# Imported once, not in each process that is forked.
IMPORTED = (modeling_gpt_neox,)

Asked = tuple[str, int, str, dict[str, Any]]
"""Stage, step, action, arguments."""


class PersistentOperator(Operator):
    """Asks again for what nobody was there to read."""

    def _ask(self, action: str, arguments: dict[str, Any], label: str) -> None:
        super()._ask(action, arguments, label)
        statuses = [e for e in events_of(self._run, "command") if e["by"] == label]
        if statuses and "no worker was running" in (statuses[-1]["reason"] or ""):
            self._request(action, arguments, label)

    def _request(self, action: str, arguments: dict[str, Any], label: str) -> None:
        from sf_tui.run.commands import request_command

        request_command(self._run, action, arguments, by=label)


@dataclass(frozen=True)
class Fault:
    """A run to play, and where.

    Attributes:
        run: the run; it is made if it isn't there.
        profile: its profile.
        plan: what is asked for.
        at: number of the file operation at which the process kills itself; 0: never.
        torn: tear the write there.
        log: gets a line for each operation.
        errors: gets what the process prints.
    """

    run: RunDirectory
    profile: Path
    plan: Sequence[Asked]
    at: int
    torn: bool
    log: Path
    errors: Path


def play(fault: Fault) -> int:
    """Make the run if it isn't there, and work on it."""
    run = fault.run
    FaultPoints(run.path.parent, fault.at, torn=fault.torn, log=fault.log)
    if not run.run_json.exists():
        profile = load_profile(fault.profile)
        RunDirectory.create(
            run.path, profile_text=dump_profile(profile), profile_name=profile.name, argv=["sf"]
        )
    operator = PersistentOperator(run)
    for stage, step, action, arguments in fault.plan:
        operator.at(stage, step, action, **arguments)
    return work(run, operator)


def fork(fault: Fault) -> int:
    """Play in a child and wait for its end; return its exit code, or minus the signal."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 99
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(fault.errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os.dup2(2, 1)
        # The test's own are buffers of pytest.
        sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1)
        code = play(fault)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
