"""Continuing a run whose worker is gone, from its console: `sf resume` in a process of its own."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from textwrap import wrap

from sf_tui.run.checkpoint_folders import newest_checkpoint
from sf_tui.run.directory import RunDirectory
from sf_tui.run.hosted import host_name, way_to_resume
from sf_tui.run.liveness import WorkerState
from sf_tui.run.next_steps import is_complete
from sf_tui.tui.actions import Action, RunActions
from sf_tui.tui.dialogs.dialog import Dialog, keys_lines
from sf_tui.tui.lines import Line
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.ops import PAUSED, op_named


def resume_action(actions: RunActions) -> Action | None:
    """Return the action whose key continues a run: the one that pauses and resumes it."""
    return next(
        (one for one in actions.actions if one.key and op_named(one.op).turns_on == PAUSED), None
    )


def can_resume(view: ViewState) -> bool:
    """Return whether this console can continue the run: it has no worker, and steps are left."""
    state, ended = view.liveness.state, view.newest.finished
    if view.read_only or host_name(view.run) or resume_action(view.actions) is None:
        return False
    if view.liveness.host not in (None, socket.gethostname()):
        # Its checkpoints may be within reach, its devices are not.
        return False
    if state is WorkerState.DEAD:
        return True
    return state is WorkerState.FINISHED and ended is not None and not is_complete(ended.status)


class ResumeDialog(Dialog[bool]):
    """Returns True when the operator wants the run to go on.

    Args:
        view: the console's.
        steady_clock: monotonic seconds.
    """

    def __init__(self, view: ViewState, steady_clock: Callable[[], float]) -> None:
        super().__init__(view, steady_clock)
        newest = newest_checkpoint(view.run, view.newest)
        self._place = "its beginning" if newest is None else f"{newest.stage}@{newest.step}"

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the question, where the run goes on from, and the command."""
        state = self.view.newest
        paused = state.paused or state.ended_paused
        sentences = [
            f"A new worker on this machine trains on from {self._place}."
            + (" The pause is not kept." if paused else ""),
            f"It does what `{way_to_resume(self.view.run)} --detach` does.",
        ]
        text: list[Line] = [[("resume the run?", "strong")]]
        text += [[(line, "text")] for each in sentences for line in wrap(each, max(width, 20))]
        foot = keys_lines([("y", "resume"), ("n or esc", "cancel")], width)
        return self.with_foot([*text, []], foot, height)

    def press(self, key: str) -> None:
        """Confirm with `y`, cancel with `n`."""
        self.scroll(key)
        if key in {"y", "n"}:
            self.dismiss(key == "y")


async def resume_run(run: RunDirectory) -> str:
    """Start a worker for a run, and return why there is none; empty if it runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sf_tui.cli", "resume", str(run.path), "--detach"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        # Ctrl-C in the console's terminal must not reach it.
        start_new_session=True,
    )
    _, said = await process.communicate()
    if process.returncode == 0:
        return ""
    lines = said.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in lines if line.strip()), f"exit {process.returncode}")
