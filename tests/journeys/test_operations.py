"""Long operations under an operator's fingers: kept, announced, cancelled, paused, resumed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from journeys.test_console import OpenSf, commands_of, open_sf, wait_for
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_events
from sf_tui.run.liveness import probe_liveness
from sf_tui.run.state import fold
from support.quick_run import PROFILE

__all__ = ["open_sf"]

LONG = (
    *("--set", "tasks.1.train.steps=200000", "--set", "checkpoint.every=100000"),
    *("--set", "diagnose.steps=800", "--set", "diagnose.time=0", "--set", "probe.every=100000"),
)


def is_at_second_arm(event: dict[str, Any]) -> bool:
    return event["type"] == "operation" and event["number"] == 2 and event["done"] > 0


@pytest.mark.slow
def test_an_operator_keeps_cancels_pauses_and_resumes(
    open_sf: OpenSf, sf_home: Path, tmp_path: Path
) -> None:
    profile = tmp_path / "quick.toml"
    profile.write_text(PROFILE)
    path = sf_home / "runs" / "operations"
    run = RunDirectory(path)
    terminal = open_sf("run", profile, "--run-dir", path, *LONG)
    terminal.read_until("starting the worker")
    terminal.press("f")
    terminal.read_until("kept for the first step")
    done = wait_for(run, lambda e: e["type"] == "command" and e["status"] == "done")
    assert (done["action"], done["step"]) == ("freeze", 0)

    wait_for(run, lambda e: e["type"] == "step" and (e["stage"], e["step"]) == ("new", 20))
    terminal.read_until("tokens/s")
    terminal.press("d")
    terminal.read_until("diagnosing: training waits")
    at = wait_for(run, is_at_second_arm)
    terminal.press("\x1b")
    cancelled = wait_for(run, lambda e: e["type"] == "command" and e["status"] == "cancelled")
    assert (cancelled["action"], cancelled["step"]) == ("diagnose", at["step"])
    wait_for(run, lambda e: e["type"] == "step" and e["seq"] > cancelled["seq"])

    terminal.read(1.0)
    terminal.press("d")
    wait_for(run, lambda e: is_at_second_arm(e) and e["seq"] > cancelled["seq"])
    terminal.press(" ")
    paused = wait_for(run, lambda e: e["type"] == "command" and e["action"] == "pause")
    assert fold(read_events(run.events)).operation is not None, "accepted while the test goes on"
    terminal.press("d")
    wait_for(
        run,
        lambda e: (
            e["type"] == "command" and e["status"] == "cancelled" and e["seq"] > paused["seq"]
        ),
    )
    terminal.read_until("paused")
    assert [e["status"] for e in commands_of(run, "diagnose")] == ["accepted", "cancelled"] * 2

    pid = probe_liveness(run).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    terminal.read_until("The worker is dead")
    terminal.read(1.0)
    terminal.press(" ")
    terminal.read_until("resume the run?")
    terminal.read(0.6)
    terminal.press("y")
    wait_for(run, lambda e: e["type"] == "rewound" and e["reason"] == "resumed")
    terminal.read_until("running")
    terminal.press("q")
    assert terminal.read_to_end() == 0
