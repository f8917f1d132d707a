"""The built-in experiment shows the paper's finding, and a rule by itself softens it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from sf_tui.run.events import read_objects
from support import RUN_PATIENCE_S
from support.fork_client import ForkHost

Events = list[dict[str, Any]]

pytestmark = pytest.mark.timeout(RUN_PATIENCE_S)
SHORT_REPLAY = 100
"""Steps on the old task after which it is back; the paper takes 400."""
SHORT_STAGE = 60
"""Steps of the new task that show all of it: the old one has fallen by step 50."""
SHORT_WINDOW = 50
"""Steps of the danger window, instead of 150."""

RULE_PROFILE = """
[guard]
old_accuracy = 0.8

[[rules]]
name = "protect-old-task"
metric = "drop"
above = 0.10
within_steps = 150
action = "freeze"

[[rules]]
name = "remember"
metric = "drop"
above = 0.10
within_steps = 150
action = "checkpoint"
"""


def _probes(events: Events, stage: str) -> Events:
    return [e for e in events if e["type"] == "probe" and e["stage"] == stage]


def _exact(probe: dict[str, Any], task: str) -> float:
    return float(probe.get("subset", probe["metrics"])[task]["exact_match"])


def _play(host: ForkHost, path: Path, *arguments: str) -> Events:
    line = ("run", "biography-mini", "--no-ui", "--json", "--run-dir", path, *arguments)
    done = host.run(*line, timeout_s=RUN_PATIENCE_S)
    assert done.poll() == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events == list(read_objects(path / "events.jsonl"))
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    return events


@pytest.fixture(scope="module")
def plain(fork_host: ForkHost, tmp_path_factory: pytest.TempPathFactory) -> Events:
    path = tmp_path_factory.mktemp("mini") / "plain"
    short = (
        *("--set", f"train.steps={SHORT_STAGE}"),
        *("--set", f"window.steps={SHORT_WINDOW}"),
        *("--set", f"replay_stage.steps={SHORT_REPLAY}"),
    )
    return _play(fork_host, path, "--seed", "1", *short)


def _check_the_finding(events: Events, replay_steps: int) -> None:
    new, recover = _probes(events, "new"), _probes(events, "replay")
    start = new[0]["metrics"]["old"]["exact_match"]
    window = [probe for probe in new if probe["step"] <= 150]
    assert new[0]["metrics"]["old"]["n"] == 600
    assert start >= 0.95
    assert min(_exact(probe, "old") for probe in window) <= start / 2
    assert new[-1]["metrics"]["old"]["exact_match"] <= start / 2
    assert new[-1]["metrics"]["new"]["exact_match"] >= 0.98
    assert recover[-1]["step"] == replay_steps
    assert recover[-1]["metrics"]["old"]["exact_match"] >= 0.9 * start


def test_plain_tuning_shows_the_papers_finding(plain: Events) -> None:
    _check_the_finding(plain, SHORT_REPLAY)


def test_the_danger_window_is_entered_and_left_with_an_alert_between(plain: Events) -> None:
    danger = [(e["step"], e["state"]) for e in plain if e["type"] == "danger"][:2]
    alerts = [e for e in plain if e["type"] == "alert" and e["code"] == "drop"]
    assert danger == [(0, "entered"), (SHORT_WINDOW, "left")]
    assert 0 < alerts[0]["step"] <= SHORT_WINDOW


def test_every_probe_of_a_stage_takes_the_same_number_within_the_budget(plain: Events) -> None:
    counts = {
        (task, measures["n"])
        for probe in _probes(plain, "new")[1:-1]
        for task, measures in probe["metrics"].items()
    }
    assert len(counts) == 2


@pytest.mark.slow
def test_a_rule_freezes_at_its_bound_and_a_guard_decides_the_exit_code(
    plain: Events, fork_host: ForkHost, tmp_path: Path
) -> None:
    profile = tmp_path / "ruled.toml"
    shown = fork_host.run("profile", "show", "biography-mini")
    profile.write_text(shown.stdout + RULE_PROFILE)
    path = tmp_path / "ruled"
    steps = ("--set", f"train.steps={SHORT_STAGE}")
    line = ("run", profile, "--no-ui", "--seed", "1", "--run-dir", path, *steps)
    done = fork_host.run(*line, timeout_s=RUN_PATIENCE_S)
    assert done.poll() == 4, done.stderr
    assert "old_accuracy" in done.stderr
    events = list(read_objects(path / "events.jsonl"))
    fired = [e for e in events if e["type"] == "command" and e["by"] == "protect-old-task"]
    assert [e["status"] for e in fired] == ["accepted", "done"]
    assert fired[0]["value"] > 0.10
    assert fired[0]["step"] <= 150

    unruled = _probes(plain, "new")[-1]
    assert _exact(_probes(events, "new")[-1], "old") > _exact(unruled, "old") + 0.02

    at_firing = path / "checkpoints" / "new" / f"step-{fired[0]['step']:06d}" / "weights"
    final = load_file(path / "model" / "model.safetensors")
    for layer in ("embeddings", "block-0", "block-1"):
        for name, tensor in load_file(at_firing / f"{layer}.safetensors").items():
            assert final[name].equal(tensor), name
    drifts = [e for e in events if e["type"] == "drift" and e["step"] > fired[0]["step"]]
    frozen = [[d["relative_update"] for d in e["layers"] if d["frozen"]] for e in drifts]
    assert len(frozen[0]) == 3
    assert all(values == frozen[0] for values in frozen)


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["2", "3", "4", "5"])
def test_other_seeds_show_it_too(fork_host: ForkHost, tmp_path: Path, seed: str) -> None:
    _check_the_finding(
        _play(fork_host, tmp_path / "run", "--seed", seed, "--set", "replay_stage.steps=400"), 400
    )
