"""An anchored course keeps the old task with none of its data, whenever the anchor comes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from sf_tui.run.events import EventTail, read_objects
from support import RUN_PATIENCE_S
from support.fork_client import ForkHost

FALLING = ("--set", "train.lr_schedule=cosine", "--set", "train.min_lr_ratio=0.05")
ANCHORED = ("--set", "train.strategy=anchor", *FALLING)
SHORT = (
    *("--set", "train.steps=60", "--set", "anchor.cache_size=1500"),
    *("--set", "train.learning_rate=4e-4", "--set", "window.steps=40"),
)


def _play(host: ForkHost, path: Path, *arguments: str) -> list[dict[str, Any]]:
    done = host.start("run", "biography-mini", "--no-ui", "--run-dir", path, *arguments)
    assert done.wait(RUN_PATIENCE_S) == 0, done.stderr
    return list(read_objects(path / "events.jsonl"))


def _accuracies(events: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Return the old task's accuracy at the start and the end, and the new one's at the end."""
    probes = [e["metrics"] for e in events if e["type"] == "probe" and e["stage"] == "new"]
    first, last = probes[0], probes[-1]
    return first["old"]["exact_match"], last["old"]["exact_match"], last["new"]["exact_match"]


@pytest.mark.slow
@pytest.mark.timeout(RUN_PATIENCE_S)
def test_an_anchored_run_keeps_the_old_task_and_says_what_lay_nearest(
    fork_host: ForkHost, tmp_path: Path
) -> None:
    events = _play(fork_host, tmp_path / "run", *ANCHORED, *SHORT, "--seed", "1")
    start, old, new = _accuracies(events)
    # Plain tuning on this schedule leaves six tenths.
    assert old >= 0.85 * start
    assert new >= 0.9
    assert all(e["losses"]["anchor"] > -1e-5 for e in events if e["type"] == "step")

    (named,) = [e for e in events if e["type"] == "tasks_at_risk"]
    assert (named["stage"], named["step"]) == ("new", 0)
    assert named["prompts"] >= 1
    # Of the stage's forwarded tokens' worth, three for a trained one.
    steps = [e for e in events if e["type"] == "step"]
    assert named["tokens"] <= 0.03 * 3 * len(steps) * 48 * 14
    likelihoods = [group["likelihood"] for group in named["groups"]]
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert {"frame", "kind", "example", "likelihood", "prompts"} == named["groups"][0].keys()
    assert "…" in named["groups"][0]["frame"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", ["1", "2"])
@pytest.mark.parametrize(("form", "rate"), [("same", "4e-4"), ("other", "6e-4")])
def test_anchored_tuning_ends_as_promised(
    fork_host: ForkHost, tmp_path: Path, form: str, rate: str, seed: str
) -> None:
    settings = (
        "--set",
        f'biography.question_form="{form}"',
        "--set",
        f"train.learning_rate={rate}",
    )
    events = _play(fork_host, tmp_path / "run", *ANCHORED, *settings, "--seed", seed)
    start, old, new = _accuracies(events)
    assert old >= 0.97 * start
    assert new >= 0.99


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_anchor_pressed_early_ends_near_one_from_the_first_step_and_a_kill_costs_nothing(
    fork_host: ForkHost, tmp_path: Path
) -> None:
    settings = ("--seed", "1", "--set", "train.learning_rate=4e-4", *FALLING)
    run = tmp_path / "run"
    process = fork_host.start("run", "biography-mini", "--no-ui", "--run-dir", run, *settings)
    _wait(run, lambda e: e["type"] == "step" and e["step"] == 18)
    assert fork_host.run("act", run, "pause").wait() == 0
    acting = fork_host.start("act", run, "anchor")
    _wait(run, lambda e: e["type"] == "command" and e["op"] == "anchor")
    time.sleep(1.0)
    process.kill()
    acting.wait()
    assert fork_host.start("resume", run, "--no-ui").wait(RUN_PATIENCE_S) == 0
    events = list(read_objects(run / "events.jsonl"))
    (pressed,) = [e for e in events if e["type"] == "command" and e["op"] == "anchor"][:1]
    assert pressed["step"] <= 30
    anchored = _play(fork_host, tmp_path / "whole", *ANCHORED, *settings)
    assert _accuracies(events)[1] >= _accuracies(anchored)[1] - 0.05
    assert _accuracies(events)[2] >= 0.99


def _wait(run: Path, wanted: Any) -> None:
    tail = EventTail(run / "events.jsonl")
    deadline = time.monotonic() + RUN_PATIENCE_S
    while time.monotonic() < deadline:
        if any(wanted(event) for event in tail.iterate_objects()):
            return
        time.sleep(0.01)
    raise AssertionError("never told")
