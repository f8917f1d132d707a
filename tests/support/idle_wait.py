"""Textual's wait for a console that is idle, in shorter steps.

The pilot waits after each key until the process has used almost no CPU time for 20 ms, so a third
of the console's tests was spent waiting.
"""

from __future__ import annotations

from asyncio import sleep
from time import monotonic, process_time

import textual.app
import textual.pilot

_STEP_S = 0.004
_WORKED_S = 0.001
"""CPU time in a step from which the process counts as at work."""
_IDLE_STEPS = 2
"""One could fall in a moment in which another process has the core."""


async def _wait_for_idle(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    begun, idle = monotonic(), 0
    while monotonic() - begun < max_sleep:
        before = process_time()
        await sleep(_STEP_S)
        idle = idle + 1 if process_time() - before < _WORKED_S else 0
        if idle >= _IDLE_STEPS and monotonic() - begun > min_sleep:
            return


def wait_in_short_steps() -> None:
    """Let the pilot of this process wait so; a Textual without these names waits as it does."""
    for module in (textual.app, textual.pilot):
        if hasattr(module, "wait_for_idle"):
            module.wait_for_idle = _wait_for_idle
