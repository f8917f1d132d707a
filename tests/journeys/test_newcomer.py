"""Two files and a small Llama: the suggested profile teaches the new task, a repair keeps both."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sf_tui.run.events import read_objects
from support import RUN_PATIENCE_S
from support.fork_client import ForkHost
from support.newcomer import write_newcomer


@pytest.mark.timeout(RUN_PATIENCE_S)
def test_the_suggested_profile_teaches_the_new_task(fork_host: ForkHost, tmp_path: Path) -> None:
    write_newcomer(tmp_path, hidden=48, old_subjects=40, new_subjects=20, steps=200)
    profile, run = tmp_path / "mine.toml", tmp_path / "run"
    files = ("--old", tmp_path / "old.jsonl", "--new", tmp_path / "new.jsonl")
    made = fork_host.run("profile", "init", "--model", tmp_path / "model", *files, "--out", profile)
    assert made.poll() == 0, made.stderr
    assert len(profile.read_text().splitlines()) <= 50

    checked = fork_host.run("profile", "check", profile, "--json")
    assert checked.poll() == 0, checked.stderr
    found = json.loads(checked.stdout)
    assert found["start"][0]["value"] >= 0.9
    assert found["warnings"] == []

    done = fork_host.run("run", profile, "--no-ui", "--run-dir", run)
    # The guard of the old task may fail: plain tuning protects nothing.
    assert done.poll() in (0, 4), done.stderr
    probes = [e["metrics"] for e in read_objects(run / "events.jsonl") if e["type"] == "probe"]
    assert probes[0]["old"]["exact_match"] >= 0.9
    assert probes[-1]["new"]["exact_match"] >= 0.8


@pytest.mark.slow
@pytest.mark.timeout(2 * RUN_PATIENCE_S)
def test_a_repair_that_brings_little_leads_on_to_one_that_keeps_both_tasks(
    fork_host: ForkHost, tmp_path: Path
) -> None:
    # Asked about the same subjects, the start model contradicts what was learned of them.
    write_newcomer(
        tmp_path, hidden=48, old_subjects=40, new_subjects=20, steps=200, same_subjects=True
    )
    profile, run, out = tmp_path / "mine.toml", tmp_path / "run", tmp_path / "fixed"
    files = ("--old", tmp_path / "old.jsonl", "--new", tmp_path / "new.jsonl")
    made = fork_host.run("profile", "init", "--model", tmp_path / "model", *files, "--out", profile)
    assert made.poll() == 0, made.stderr
    assert fork_host.run("run", profile, "--no-ui", "--run-dir", run).poll() in (0, 4)

    command = ("recover", run, "--out", out, "--json")
    done = fork_host.run(*command, timeout_s=RUN_PATIENCE_S)
    found = json.loads(done.stdout)
    assert out.exists() == (done.poll() == 0)
    hint = re.search(r"--examples (\d+)", done.stderr)
    if hint:
        better = ("recover", run, "--out", tmp_path / "better", "--json", "--examples", hint[1])
        done = fork_host.run(*better, timeout_s=RUN_PATIENCE_S)
        found = json.loads(done.stdout)
    assert done.poll() == 0, done.stderr
    assert found["new"]["after"] >= 0.98 * found["new"]["before"]
    assert found["old"]["after"] > found["old"]["before"] + 0.2
