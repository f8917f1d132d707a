"""Checks of `[diagnose] beside`: where a test can't run beside the training."""

from __future__ import annotations

from collections.abc import Iterator

from sf_tui.profile.problems import Problem
from sf_tui.profile.schema import Profile

HOSTED = "a training that another program drives can't be tested beside itself"
SEVERAL_PROCESSES = "a training in several processes can't be tested beside itself"
INSTEAD = "take beside = false: training then waits for the test"


def check_beside(profile: Profile) -> Iterator[Problem]:
    """Find a test beside a training that doesn't support it."""
    if not profile.diagnose.beside:
        return
    processes = profile.launch.processes
    if profile.host is not None:
        yield Problem(("diagnose", "beside"), f"beside = true: {HOSTED}", INSTEAD)
    # How many GPUs there are is known where the run begins.
    elif isinstance(processes, int) and processes > 1:
        yield Problem(("diagnose", "beside"), f"beside = true: {SEVERAL_PROCESSES}", INSTEAD)
