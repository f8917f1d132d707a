"""An operator's course with a detached run: start, look, act, stop, resume; and kill -9."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_objects
from sf_tui.run.liveness import WorkerState, probe_liveness
from support import PATIENCE_S
from support.fork_client import ForkHost

RunSf = Callable[..., Any]

SHORT = (
    *("--set", "tasks.pretrain.train.steps=30"),
    *("--set", "tasks.pretrain.train.batch_size=4"),
    *("--set", "tasks.old.train.steps=20"),
    *("--set", "train.steps=30"),
    *("--set", "checkpoint.every=10"),
)


def _digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def _wait_for_step(run: Path, stage: str, step: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for event in read_objects(run / "events.jsonl"):
            if event["type"] == "step" and (event["stage"], event["step"]) == (stage, step):
                return
        time.sleep(0.1)
    raise AssertionError(f"step {step} of {stage} never came")


@pytest.mark.slow
def test_a_detached_run_from_start_to_resume(run_sf: RunSf, sf_home: Path) -> None:
    started = run_sf(
        "run", "biography-tiny", "--detach", "--set", "tasks.pretrain.train.steps=5000"
    )
    assert started.returncode == 0, started.stderr
    identity = started.stdout.strip()
    run = RunDirectory(sf_home / "runs" / identity)
    assert probe_liveness(run).state is WorkerState.ALIVE
    _wait_for_step(run.path, "pretrain", 3)

    frozen = run_sf("act", identity, "freeze", "--set", "layers=1", "--json")
    assert frozen.returncode == 0, frozen.stderr
    assert json.loads(frozen.stdout)["arguments"] == {"layers": 1, "embeddings": True}
    twice = run_sf("act", "last", "unfreeze")
    assert "done" in twice.stderr
    refused = run_sf("act", "last", "unfreeze")
    assert refused.returncode == 1
    assert "nothing is frozen" in refused.stderr
    unknown = run_sf("act", "last", "freez")
    assert unknown.returncode == 2
    assert "freeze" in unknown.stderr

    assert run_sf("act", "last", "pause").returncode == 0
    assert identity in run_sf("runs").stdout
    listed = json.loads(run_sf("runs", "--json").stdout)
    assert [(row["run"], row["state"]) for row in listed] == [(identity, "paused")]
    stopped = run_sf("stop", "last")
    assert stopped.returncode == 0, stopped.stderr
    assert probe_liveness(run).state is WorkerState.FINISHED
    assert (run.model / "model.safetensors").is_file()

    shown = json.loads(run_sf("show", identity[:12], "--json").stdout)
    assert shown["state"] == "stopped"
    assert shown["exit_code"] == 5
    assert [command["action"] for command in shown["commands"]] == [
        *("freeze", "unfreeze", "unfreeze", "pause", "stop")
    ]
    late = run_sf("act", "last", "freeze")
    assert late.returncode == 1
    assert "sf resume" in late.stderr

    again = run_sf("resume", "last", "--detach")
    assert again.returncode == 0, again.stderr
    assert probe_liveness(run).state is WorkerState.ALIVE
    assert run_sf("stop", "last").returncode == 0
    seqs = [event["seq"] for event in read_objects(run.events)]
    assert seqs == list(range(1, len(seqs) + 1))


def test_a_run_that_is_not_there_exits_3(run_sf: RunSf) -> None:
    for command in ("show", "resume", "stop", "attach"):
        done = run_sf(command, "20990101-nothing")
        assert done.returncode == 3, (command, done.stderr)
        assert "Traceback" not in done.stderr


def _play_under_fire(host: ForkHost, run: Path, kills: int, seed: int, spread_s: float) -> None:
    moments = random.Random(seed)
    process = host.start("run", "biography-tiny", "--no-ui", "--run-dir", run, *SHORT)
    for _ in range(kills):
        time.sleep(moments.uniform(0.0, spread_s))
        process.kill()
        resuming = ("resume", run) if run.exists() else ("run", "biography-tiny", *SHORT)
        more = ("--no-ui",) if run.exists() else ("--no-ui", "--run-dir", run)
        process = host.start(*resuming, *more)
    assert process.wait() == 0, process.stderr


@pytest.mark.parametrize(("kills", "seed"), [(2, 1), pytest.param(20, 2, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments_changes_nothing(
    fork_host: ForkHost, tmp_path: Path, kills: int, seed: int
) -> None:
    calm, fired = tmp_path / "calm", tmp_path / "fired"
    started = time.monotonic()
    done = fork_host.run("run", "biography-tiny", "--no-ui", "--run-dir", calm, *SHORT)
    took = time.monotonic() - started
    assert done.poll() == 0, done.stderr
    _play_under_fire(fork_host, fired, kills, seed, took * 0.7)

    assert _digests(calm / "model") == _digests(fired / "model")
    events = list(read_objects(fired / "events.jsonl"))
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [e["type"] for e in events].count("run_finished") == 1
