"""The examples that ship with sf work as they are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sf_tui.profile import load_profile
from sf_tui.profile.sources import examples_directory
from sf_tui.run.directory import RunDirectory
from support import RUN_PATIENCE_S
from support.quick_run import PROFILE, events_of

ROWS = 40


@pytest.fixture
def own_model(tmp_path: Path, llama_directory: Path) -> Path:
    """Copy the example profile beside the files that it names."""
    shutil.copy(examples_directory() / "own-model.toml", tmp_path)
    shutil.copytree(llama_directory, tmp_path / "my-model")
    for task in ("old", "new"):
        rows = [{"prompt": f"{task} {n} is", "completion": f" {n % 7}"} for n in range(ROWS)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{task}.jsonl").write_text(text)
    return tmp_path / "own-model.toml"


def test_the_own_model_profile_is_accepted_beside_its_files(own_model: Path) -> None:
    profile = load_profile(own_model, files=True)
    assert profile.model.source == str(own_model.parent / "my-model")
    assert [task.name for task in profile.tasks] == ["old", "new"]
    assert not profile.notes


def test_the_own_model_profile_names_the_files_that_are_missing(own_model: Path) -> None:
    (own_model.parent / "old.jsonl").unlink()
    with pytest.raises(Exception, match=r"own-model\.toml:\d+: .*old\.jsonl"):
        load_profile(own_model, files=True)


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """An environment with `sf`, an `srun` for two "nodes" here, and a recorded `scontrol`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, line in {
        "sf": f'exec "{sys.executable}" -m sf_tui.cli "$@"',
        "torchrun": f'exec "{sys.executable}" -m torch.distributed.run "$@"',
        "scontrol": f'[ "$1" = show ] && echo localhost || echo "$@" >> "{tmp_path}/scontrol.log"',
        "srun": 'while [ "${1#--}" != "$1" ]; do shift; done\n"$@" & "$@" && wait $!',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "SLURM_JOB_ID": "42"}


@pytest.mark.parametrize(("name", "ahead_s"), [("slurm", 300), ("slurm-nodes", 600)])
def test_the_slurm_script_is_valid_and_wants_a_profile(
    cluster: dict[str, str], name: str, ahead_s: int
) -> None:
    script = examples_directory() / f"{name}.sbatch"
    assert f"#SBATCH --signal=B:USR1@{ahead_s}" in script.read_text()
    done = subprocess.run(["bash", script], env=cluster, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"usage: sbatch {name}.sbatch" in done.stderr


# Slow in comparison, but only a worker that is signaled shows that the signal arrives.
@pytest.mark.slow
def test_the_slurm_script_requeues_before_the_limit_and_then_completes(
    own_model: Path, cluster: dict[str, str], tmp_path: Path
) -> None:
    script, run = examples_directory() / "slurm.sbatch", tmp_path / "runs" / "mine"
    job = subprocess.Popen(
        ["bash", script, own_model, run], env=cluster, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    events = run / "events.jsonl"
    while not (events.exists() and '"run_started"' in events.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    printed, _ = job.communicate(timeout=120)
    assert job.returncode == 0, printed
    assert "requeueing job 42" in printed
    assert (tmp_path / "scontrol.log").read_text() == "requeue 42\n"

    again = subprocess.run(
        ["bash", script, own_model, run], env=cluster, capture_output=True, text=True, timeout=240
    )
    # The toy model cannot do the old task, so the guard fails: the script passes that on.
    assert again.returncode == 4, again.stderr
    assert "a guard failed" in again.stdout
    assert (tmp_path / "scontrol.log").read_text() == "requeue 42\n"


# Slow: two launchers and their processes import torch, twice.
@pytest.mark.slow
def test_two_nodes_train_one_run_that_is_requeued_and_completes(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    profile, run = tmp_path / "quick.toml", RunDirectory(tmp_path / "runs" / "quick")
    profile.write_text(PROFILE.replace("steps = 12", "steps = 200"))
    command = ["bash", examples_directory() / "slurm-nodes.sbatch", profile, run.path]
    nodes = cluster | {"SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "1"}
    with (tmp_path / "job.log").open("w") as log:
        job = subprocess.Popen(command, env=nodes, stdout=log, stderr=log)
    printed = tmp_path / "job.log"
    deadline = time.monotonic() + RUN_PATIENCE_S
    while not (run.events.exists() and events_of(run, "step")[5:]):
        assert job.poll() is None, printed.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(RUN_PATIENCE_S) == 0, printed.read_text()
    assert "requeueing job 42" in printed.read_text()
    assert events_of(run)[-1]["status"] == "stopped"

    again = subprocess.run(
        command, env=nodes, capture_output=True, text=True, timeout=RUN_PATIENCE_S
    )
    assert again.returncode == 0, again.stderr
    assert "sf: complete" in again.stdout
    # Two launchers, a process each: one run of two ranks, both times.
    told = [one["message"] for one in events_of(run, "alert") if one["code"] == "ranks"]
    assert len(told) == 2
    assert all(text.startswith("2 ranks on 1 host (rank 0: cpu") for text in told)
    assert run.rank_log(1).exists()
    assert not run.rank_log(2).exists()
