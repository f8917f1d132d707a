"""Trainings of transformers' Trainer in two processes, with DDP and with FSDP2, watched."""

# ruff: noqa: ARG002  the host names what it passes to a callback

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from transformers import TrainerCallback

from sf_tui.integrations import SfCallback, processes
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from support.hosts import lines_of, losses_of, trainer

FEW = (
    "[probe]\nexamples = 12\nevery_in_window = 2\nbudget_in_window = 1.0\n"
    "[window]\nsteps = 8\n[neighbors]\nsurvey_budget = 0\n[anchor]\nrows = 8\ncache_size = 32\n"
)

Asked = dict[int, list[tuple[str, dict[str, Any]]]]


class Asks(TrainerCallback):
    """Asks for actions in the first process, and keeps the weights of every step in each."""

    def __init__(self, run: Path, asked: Asked) -> None:
        self._run = RunDirectory(run)
        self._asked = asked
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.weights.append(
            {name: whole(p).clone() for name, p in given["model"].named_parameters()}
        )
        if state.is_world_process_zero:
            for action, arguments in self._asked.get(state.global_step, ()):
                request_command(self._run, action, arguments)


def whole(parameter: torch.Tensor) -> torch.Tensor:
    local = getattr(parameter, "to_local", None)
    return (parameter if local is None else local()).detach()


def in_two_processes(work: Callable[..., None], folder: Path, *given: Any) -> None:
    """Run some work in two processes, as torchrun starts them; fail if one fails or hangs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    both = [
        context.Process(target=_as_rank, args=(rank, port, work, folder, *given))
        for rank in range(2)
    ]
    for process in both:
        process.start()
    deadline = time.monotonic() + 120
    try:
        for process in both:
            process.join(max(deadline - time.monotonic(), 0))
        said = "".join(file.read_text() for file in folder.glob("stderr-*"))
        assert [process.exitcode for process in both] == [0, 0], said[-6000:]
    finally:
        for process in both:
            process.kill()


def _as_rank(rank: int, port: int, work: Callable[..., None], folder: Path, *given: Any) -> None:
    place = os.open(folder / f"stderr-{rank}", os.O_WRONLY | os.O_CREAT)
    os.dup2(place, 1)
    os.dup2(place, 2)
    # The test's own are buffers of pytest.
    sys.stdout = sys.stderr = os.fdopen(place, "w", buffering=1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    # A Trainer of an earlier test ran alone in the process that was forked.
    for state in (GradientState, AcceleratorState, PartialState):
        state._reset_state()
    torch.set_num_threads(1)
    work(folder, *given)
    torch.distributed.destroy_process_group()


def train(
    folder: Path,
    scene: Path,
    plain: dict[str, Any],
    watched: dict[str, Any],
    asked: Asked,
    sharded: bool = False,
) -> None:
    """Train without `sf`, then with it, and save what was seen."""
    rank = os.environ["RANK"]
    same: dict[str, Any] = {"lr_scheduler_type": "constant", "weight_decay": 0.1}
    if sharded:
        from transformers.distributed import DistributedConfig

        same["loading"] = {"distributed_config": DistributedConfig(fsdp_size=2)}
    alone = trainer(scene, folder / "plain", **same | plain)
    alone.train()
    asks = Asks(folder / "run", asked)
    # Only the first process reads what the user gives.
    old = scene / "old.jsonl" if rank == "0" else None
    callback = SfCallback(old, folder / "watch.toml", folder / "run")
    host = trainer(scene, folder / "out", [asks, callback], **same | watched)
    host.train()
    torch.save(asks.weights, folder / f"weights-{rank}.pt")
    seen = {"plain": losses_of(alone), "watched": losses_of(host), "ended": host.state.global_step}
    (folder / f"seen-{rank}.json").write_text(json.dumps(seen))


def seen_in(folder: Path) -> tuple[list[Any], list[list[dict[str, torch.Tensor]]]]:
    seen = [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in range(2)]
    weights = [torch.load(folder / f"weights-{rank}.pt", weights_only=True) for rank in range(2)]
    return seen, weights


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="rebuilt"),
        pytest.param(
            {"gradient_checkpointing": False, "gradient_accumulation_steps": 1},
            id="finds-unused",
            marks=pytest.mark.slow,
        ),
        pytest.param({"lora": True}, id="lora", marks=pytest.mark.slow),
    ],
)
def test_ddp_is_watched_frozen_anchored_and_stopped_at_the_same_step_everywhere(
    tiny_scene: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    (tmp_path / "watch.toml").write_text(FEW)
    asked: Asked = {
        4: [("freeze", {"layers": 1})],
        6: [("unfreeze", {}), ("anchor", {"strength": 20.0})],
        8: [("stop", {})],
    }
    in_two_processes(train, tmp_path, tiny_scene, more | {"steps": 4}, more | {"steps": 12}, asked)
    seen, weights = seen_in(tmp_path)
    assert [one["ended"] for one in seen] == [8, 8]
    assert seen[0]["watched"][:4] == seen[0]["plain"]
    # Both hold the same weights after every step, whatever was done in between.
    for ours, theirs in zip(*weights, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert_held_from_4_to_6(weights[0])

    run = tmp_path / "run"
    done = [e["op"] for e in lines_of(run, "command") if e["status"] == "done"]
    assert done == ["freeze", "unfreeze", "anchor", "stop"]
    steps = lines_of(run, "step")
    # The loss is that of all processes, which the host logs, too.
    assert [e["loss"] for e in steps] == pytest.approx(seen[0]["watched"], rel=1e-5)
    assert ["anchor" in e.get("losses", {}) for e in steps] == [False] * 6 + [True] * 2
    assert (tmp_path / "out" / "checkpoint-8").is_dir()
    (finished,) = lines_of(run, "run_finished")
    assert (finished["status"], finished["exit_code"]) == ("stopped", 5)
    heartbeat = json.loads((run / "heartbeat").read_text())
    assert [one["rank"] for one in heartbeat["ranks"]] == [0, 1]


@pytest.mark.slow  # a recovery test and a repair
def test_ddp_takes_over_what_a_repair_made_in_the_first_process(
    tiny_scene: Path, tmp_path: Path
) -> None:
    (tmp_path / "watch.toml").write_text(
        f"{FEW}[diagnose]\nsteps = 4\ntime = 0.0\nlearning_rate = 0.001\n"
        "[recover]\nsteps = 3\nnew_floor = 0.0\nthen_anchor = false\n"
    )
    asked: Asked = {2: [("diagnose", {})], 4: [("recover", {})]}
    in_two_processes(train, tmp_path, tiny_scene, {"steps": 3}, {"steps": 6}, asked)
    seen, weights = seen_in(tmp_path)
    # The test worked on a copy, and the others waited.
    assert seen[0]["watched"][:3] == seen[0]["plain"]
    done = [e["op"] for e in lines_of(tmp_path / "run", "command") if e["status"] == "done"]
    assert done == ["diagnose", "recover"]
    for ours, theirs in zip(*weights, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow  # 16 steps with collectives for each of three layers
def test_fsdp2_is_watched_frozen_and_stopped_at_the_same_step_everywhere(
    tiny_scene: Path, tmp_path: Path
) -> None:
    (tmp_path / "watch.toml").write_text(FEW)
    asked: Asked = {
        4: [("anchor", {}), ("freeze", {"layers": 1})],
        6: [("unfreeze", {})],
        8: [("stop", {})],
    }
    in_two_processes(train, tmp_path, tiny_scene, {"steps": 4}, {"steps": 12}, asked, True)
    seen, weights = seen_in(tmp_path)
    assert [one["ended"] for one in seen] == [8, 8]
    assert seen[0]["watched"][:4] == seen[0]["plain"]
    assert not any(torch.equal(weights[0][0][name], weights[1][0][name]) for name in weights[0][0])
    for shards in weights:
        assert_held_from_4_to_6(shards)

    run = tmp_path / "run"
    done = [e["op"] for e in lines_of(run, "command") if e["status"] == "done"]
    assert done == ["freeze", "unfreeze", "stop"]
    (refused,) = [e for e in lines_of(run, "command") if e["status"] == "refused"]
    assert "FSDP2 splits each parameter" in refused["reason"]
    steps = lines_of(run, "step")
    assert [e["loss"] for e in steps] == pytest.approx(seen[0]["watched"], rel=1e-5)
    probes = lines_of(run, "probe")
    assert [probe["step"] for probe in probes] == [0, 2, 4, 6, 8]
    assert probes[0]["metrics"]["old"]["exact_match"] == pytest.approx(1.0, abs=0.05)
    assert not lines_of(run, "drift")


def train_with_one_callback(folder: Path, scene: Path, watching: str) -> None:
    rank = os.environ["RANK"]
    callbacks = (
        [SfCallback(scene / "old.jsonl", run_dir=folder / "run")] if rank == watching else []
    )
    host = trainer(scene, folder / "out", callbacks, steps=2)
    host.train()
    assert host.state.global_step == 2


@pytest.mark.parametrize("watching", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_a_process_without_a_callback_is_named_and_nothing_waits_for_it(
    tiny_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watching: str
) -> None:
    monkeypatch.setattr(processes, "_WAIT_S", 0.5)
    in_two_processes(train_with_one_callback, tmp_path, tiny_scene, watching)
    assert not (tmp_path / "run").exists()
    said = (tmp_path / "stderr-0").read_text()
    assert ("process 1 of 2 has no callback" in said) == (watching == "0")


def assert_held_from_4_to_6(weights: list[dict[str, torch.Tensor]]) -> None:
    """Assert that the first layer stood still after step 4 and moved after step 6 again."""
    by_step = dict(enumerate(weights, 1))
    held = [name for name in by_step[4] if ".layers.0." in name and moved(by_step, name, 3, 4)]
    assert held
    assert not any(moved(by_step, name, 4, 6) for name in held)
    assert all(moved(by_step, name, 6, 7) for name in held)
    free = [name for name in by_step[4] if ".layers.1." in name and moved(by_step, name, 3, 4)]
    assert all(moved(by_step, name, 4, 5) for name in free)


def moved(by_step: dict[int, dict[str, torch.Tensor]], name: str, first: int, last: int) -> bool:
    return not torch.equal(by_step[first][name], by_step[last][name])
