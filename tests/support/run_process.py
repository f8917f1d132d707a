"""A run in a process: wait for its events, kill it and go on."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventTail, JsonObject
from support import PATIENCE_S
from support.fork_client import ForkHost, SfProcess

Started = Callable[..., tuple[SfProcess, RunDirectory]]


def wait_for(
    run: RunDirectory, process: SfProcess, wanted: Callable[[JsonObject], bool]
) -> JsonObject:
    """Wait until an event is logged."""
    tail = EventTail(run.events)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        # Looked at first: what it writes before its end is read below.
        has_ended = process.poll() is not None
        for event in tail.iterate_objects():
            if wanted(event):
                return event
        assert not has_ended, process.stderr
        time.sleep(0.002)
    raise AssertionError(f"never told: {process.stderr}")


def at(stage: str, step: int) -> Callable[[JsonObject], bool]:
    return lambda e: e["type"] == "step" and (e["stage"], e["step"]) == (stage, step)


def kill_and_resume(
    fork_host: ForkHost, started: Started, kills: int, seed: int, *arguments: str
) -> RunDirectory:
    """Kill and resume a run at random moments, a given number of times."""
    moments = random.Random(seed)
    process, run = started(*arguments)
    for _ in range(kills):
        deadline = time.monotonic() + moments.uniform(0.05, 1.0)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        if not run.run_json.exists():
            process, run = started(*arguments)
        else:
            process = fork_host.start("resume", run.path, "--no-ui")
    assert process.wait() == 0, process.stderr
    return run
