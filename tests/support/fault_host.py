"""Forks a worker for each request, with torch imported already, and kills it where it is asked to.

A request is a line of JSON on stdin: the run's directory, its profile, and the file operation at
which the worker kills itself (0: none). The answer is the worker's exit code, or minus a signal.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from transformers.models.gpt_neox import modeling_gpt_neox

from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from support.fault_points import FaultPoints
from support.quick_run import Operator, events_of, work
from support.without_sync import skip_sync

IMPORTED = (modeling_gpt_neox,)

skip_sync()


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


def play(request: dict[str, Any]) -> int:
    """Make the run if it isn't there, and work on it."""
    run = RunDirectory(Path(request["run"]))
    FaultPoints(run.path.parent, request["at"], torn=request["torn"], log=Path(request["log"]))
    if not run.run_json.exists():
        profile = load_profile(Path(request["profile"]))
        RunDirectory.create(
            run.path, profile_text=dump_profile(profile), profile_name=profile.name, argv=["sf"]
        )
    operator = PersistentOperator(run)
    for stage, step, action, arguments in request["plan"]:
        operator.at(stage, step, action, **arguments)
    return work(run, operator)


def fork(request: dict[str, Any]) -> int:
    """Play in a child and wait for its end."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 99
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        code = play(request)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def serve() -> None:
    """Answer requests until stdin ends."""
    print(json.dumps(len(IMPORTED)), flush=True)
    for line in sys.stdin:
        print(json.dumps(fork(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
