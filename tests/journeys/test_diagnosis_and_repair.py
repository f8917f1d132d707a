"""A run under way is diagnosed by its own worker, ended, diagnosed again and repaired."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from sf_tui.run.events import read_objects
from support import PATIENCE_S
from support.fork_client import ForkHost

PROFILE = """\
name = "second"
[model]
source = "{model}"
[biography]
people = 48
new_people = 10
[[tasks]]
name = "first"
data = "biography:new-1"
[[tasks]]
name = "second"
data = "biography:new-2"
[train]
learning_rate = 8e-4
batch_size = 24
steps = {steps}
threads = 1
[diagnose]
steps = 8
time = 0
control = "biography:unseen"
"""


def _events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_objects(run / "events.jsonl") if event["type"] == kind]


def _wait_for_step(run: Path, step: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not (run / "events.jsonl").exists() or len(_events(run, "step")) < step:
        assert time.monotonic() < deadline, f"step {step} never came"
        time.sleep(0.1)


def test_a_run_is_diagnosed_while_it_goes_on_and_after_its_end(
    fork_host: ForkHost, finished_run: Path, tmp_path: Path
) -> None:
    profile, run = tmp_path / "second.toml", tmp_path / "run"
    profile.write_text(PROFILE.format(model=finished_run / "model", steps=100000))
    worker = fork_host.start("run", profile, "--no-ui", "--run-dir", run)
    _wait_for_step(run, 40)

    live = fork_host.run("diagnose", run, "--examples", "4", "--json")
    assert live.poll() == 0, live.stderr + worker.stderr
    found = json.loads(live.stdout)
    told = _events(run, "diagnosis")
    assert len(told) == 1
    assert told[0] == {key: value for key, value in found.items() if key in told[0]}
    assert (found["task"], found["stage"], found["examples"]) == ("first", "second", 4)
    assert found["step"] >= 40
    # Tuning has gone on from the very weights that were tested.
    _wait_for_step(run, found["step"] + 3)
    busy = fork_host.run("recover", run, "--out", tmp_path / "no")
    assert busy.poll() == 1
    assert "sf act" in busy.stderr
    assert fork_host.run("stop", run).poll() == 0
    assert worker.wait() == 5

    after = fork_host.run("diagnose", run, "--json")
    assert after.poll() == 0, after.stderr
    again = json.loads(after.stdout)
    assert len(_events(run, "diagnosis")) == 2
    assert again["step"] == _events(run, "step")[-1]["step"] > found["step"]
    assert again["now"] < again["start"] == 1.0
    assert all(one["answered"] != one["wanted"] for one in again["answers"])
    assert 1 <= len(again["answers"]) <= 3
    assert json.loads(fork_host.run("show", run, "--json").stdout)["state"] == "stopped"

    _goes_on(fork_host, run)


def _goes_on(fork_host: ForkHost, run: Path) -> None:
    """Resume a run behind its diagnosis, and stop it again."""
    steps = len(_events(run, "step"))
    worker = fork_host.start("resume", run, "--no-ui")
    _wait_for_step(run, steps + 2)
    assert fork_host.run("stop", run).poll() == 0
    assert worker.wait() == 5
    seqs = [event["seq"] for event in read_objects(run / "events.jsonl")]
    assert seqs == list(range(1, len(seqs) + 1))


def test_a_run_that_ended_half_way_through_the_new_task_is_repaired(
    fork_host: ForkHost, finished_run: Path, tmp_path: Path
) -> None:
    profile, run, out = tmp_path / "second.toml", tmp_path / "run", tmp_path / "repaired"
    # At this step the new task stands on little: a repair that isn't careful loses a tenth of it.
    profile.write_text(PROFILE.format(model=finished_run / "model", steps=43))
    assert fork_host.run("run", profile, "--no-ui", "--run-dir", run).poll() == 0

    done = fork_host.run("recover", run, "--out", out, "--steps", "40", "--json")
    assert done.poll() == 0, done.stderr
    repaired = json.loads(done.stdout)
    assert repaired["old"]["after"] > repaired["old"]["before"] + 0.1
    assert repaired["new"]["after"] >= 0.98 * repaired["new"]["before"]
    assert load_file(out / "model.safetensors").keys() == (
        load_file(run / "model" / "model.safetensors").keys()
    )
