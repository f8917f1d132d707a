"""Training on one GPU: precision, freeze, resume, no memory, the machine panel."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpu.small_run import PROFILE, Run
from sf_tui.run.devices import DeviceReading
from sf_tui.run.directory import RunDirectory
from sf_tui.run.liveness import probe_liveness
from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.panels.machine import MachinePanel
from sf_tui.tui.terminal import ConsoleOptions
from support import PATIENCE_S
from support.quick_run import (
    assert_well_told,
    checkpoint_weights,
    equal,
    events_of,
    final_weights,
    live_course,
    live_probes,
)

pytestmark = pytest.mark.gpu

BFLOAT16 = 'model.dtype="bfloat16"'
FLOAT32 = 'model.dtype="float32"'


def began(run: RunDirectory) -> tuple[str, str]:
    (started,) = events_of(run, "run_started")
    return started["device"], started["precision"]


def losses_of(run: RunDirectory, stage: str) -> list[float]:
    return [event["loss"] for event in events_of(run, "step") if event["stage"] == stage]


def test_the_weights_train_in_float32_with_bf16_autocast(train: Run, device: str) -> None:
    _, run = train()
    where, precision = began(run)
    assert where.startswith(device)
    assert precision == "float32 weights, bf16 autocast"
    assert_well_told(run)
    losses = losses_of(run, "old")
    assert losses[-1] < losses[0] / 2
    assert all(weight.dtype == torch.float32 for weight in final_weights(run).values())


def test_a_frozen_block_stays_bit_identical_in_bfloat16(train: Run, device: str) -> None:
    _, run = train(
        BFLOAT16,
        'tasks.new.train.strategy="freeze"',
        "tasks.new.train.freeze.layers=2",
        "train.weight_decay=0.1",
    )
    assert began(run)[0].startswith(device)
    assert began(run)[1] == "bfloat16"
    before, after = (checkpoint_weights(run, "new", step) for step in (0, 24))
    assert all(weight.dtype == torch.bfloat16 for weight in after.values())
    same = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {n for n in before if ".layers.0." in n or ".layers.1." in n or "embed" in n}
    assert frozen
    assert frozen <= same
    assert any(".layers.3." in name for name in before.keys() - same)


def assert_same_losses(run: RunDirectory, other: RunDirectory, stage: str, after: int) -> None:
    """Assert that two runs have the same steps, and nearly the same losses at the next ones.

    Later the two may be apart: a step enlarges what the one before was off by.
    """
    ours, theirs = live_course(run), live_course(other)
    assert ours.keys() == theirs.keys()
    for step in range(after + 1, after + 9):
        if (stage, step) in ours:
            loss, expected = ours[stage, step][0], theirs[stage, step][0]
            assert loss == pytest.approx(expected, rel=0.02, abs=1e-3), step


def start(tmp_path: Path, name: str) -> tuple[subprocess.Popen[str], RunDirectory]:
    file = tmp_path / "gpu.toml"
    file.write_text(PROFILE)
    line = ["run", str(file), "--no-ui", "--run-dir", str(tmp_path / name)]
    process = subprocess.Popen(
        [sys.executable, "-m", "sf_tui.cli", *line, "--set", "train.steps=400"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, RunDirectory(tmp_path / name)


def wait_until(process: subprocess.Popen[str], is_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def steps_of(run: RunDirectory) -> int:
    return len(events_of(run, "step")) if run.events.exists() else 0


def test_a_killed_run_resumes_within_float_tolerance(
    run_sf: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, train: Run
) -> None:
    process, run = start(tmp_path, "killed")
    try:
        wait_until(process, lambda: steps_of(run) > 20)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert run_sf("resume", run.path, "--no-ui").returncode == 0
    assert_well_told(run)
    _, whole = train("train.steps=400", name="whole")
    (rewound,) = events_of(run, "rewound")
    assert_same_losses(run, whole, rewound["stage"], rewound["step"])
    print("weights equal to the bit:", equal(final_weights(run), final_weights(whole)))


ROOM_BYTES = 3 << 30


def test_no_memory_is_a_clear_error_and_keeps_the_checkpoints(
    train: Run, run_sf: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    free, _ = torch.cuda.mem_get_info()
    # Held by this process, so that a batch of any device's size is too large for the rest.
    held = torch.empty(max(free - ROOM_BYTES, 0), dtype=torch.uint8, device="cuda")
    done, run = train(
        "tasks.new.train.batch_size=1024",
        "model.config.intermediate_size=16384",
        code=1,
    )
    del held
    torch.cuda.empty_cache()
    last = events_of(run)[-1]
    assert (last["type"], last["status"], last["exit_code"]) == ("run_finished", "failed", 1)
    for said in (done.stderr, last["reason"]):
        assert "out of memory" in said
        for lever in ("micro_batch_size", "gradient_checkpointing", "sf resume"):
            assert lever in said
    written = events_of(run, "checkpoint")
    assert (written[-1]["stage"], written[-1]["step"]) == ("new", 0)
    for checkpoint in written:
        assert (run.path / checkpoint["path"] / "state.json").is_file()
    weights = checkpoint_weights(run, "new", 0)
    assert all(bool(weight.isfinite().all()) for weight in weights.values())
    # With the room back it goes on from there.
    resumed = run_sf("resume", run.path, "--no-ui")
    assert resumed.returncode == 0, resumed.stderr
    assert [e["stage"] for e in events_of(run, "stage_finished")] == ["old", "new"]


def test_the_machine_panel_shows_the_device(tmp_path: Path) -> None:
    process, run = start(tmp_path, "watched")
    readings: list[DeviceReading] = []
    text = ""
    try:
        wait_until(process, lambda: steps_of(run) > 5)

        def reads() -> bool:
            readings[:] = probe_liveness(run).devices
            return bool(readings)

        wait_until(process, reads)
        app = ConsoleApp(run, ConsoleOptions())
        app.check_worker()
        app.sample_machine()
        lines = MachinePanel(app.view).compose_lines(44, 30)
        text = "\n".join("".join(part for part, _ in line) for line in lines)
    finally:
        process.terminate()
        process.communicate()
    (reading,) = readings
    assert reading.name == torch.cuda.get_device_name(reading.index)
    assert reading.used_bytes is not None
    assert reading.total_bytes is not None
    assert 0 < reading.used_bytes <= reading.total_bytes
    assert reading.peak_bytes is not None
    assert reading.peak_bytes > 0
    assert f"{reading.total_bytes / 1e9:.1f} GB" in text
    print(text)


def test_tf32_is_used_where_it_is_asked_for(train: Run) -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this device has no TF32")
    _, exact = train(FLOAT32, name="exact")
    _, rounded = train(FLOAT32, "train.tf32=true", name="rounded")
    assert began(exact)[1] == "float32"
    assert began(rounded)[1] == "float32, TF32 products"
    assert losses_of(rounded, "old")[0] == pytest.approx(losses_of(exact, "old")[0], rel=0.01)
    # TF32 keeps 10 bits of the mantissa: the losses can't be the same.
    assert losses_of(rounded, "old") != losses_of(exact, "old")


def test_compiled_steps_train_as_plain_ones(train: Run) -> None:
    _, plain = train(FLOAT32, name="plain")
    _, compiled = train(FLOAT32, "train.torch_compile=true", name="compiled")
    assert_same_losses(compiled, plain, "old", 0)
    assert live_probes(compiled).keys() == live_probes(plain).keys()
