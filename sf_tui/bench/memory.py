"""`sf bench memory`: peak memory of a run against that of transformers' Trainer.

Each side runs in its own process, one after the other. The run has probes, drift, checkpoints, an
anchor from its first quarter on, a recovery test halfway, with the optimizer's state of all layers
in memory, and a freeze command in its last quarter, and writes its final model. Trainer only
trains, on the same model, rows and precision. Both processes import this whole module.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from sf_tui.bench.harness import BenchReport, Figure, peak_memory_bytes, run_part
from sf_tui.bench.scene import is_starter, make_scene
from sf_tui.bench.throughput import make_trainer, rows_in_order
from sf_tui.engine.prepare import prepare_run
from sf_tui.errors import RunError, UsageError
from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_events
from sf_tui.vocabulary.events import (
    CheckpointWritten,
    DiagnosisMade,
    Drift,
    Event,
    Probe,
    RunStarted,
    Step,
)
from sf_tui.worker.stop import StopSignals
from sf_tui.worker.worker import Worker


def measure_memory(
    model: str, steps: int | None, batch_size: int | None, threads: int
) -> BenchReport:
    """Measure peak memory on one model; see `sf bench memory --help`.

    Args:
        model: `starter:NAME`, a directory or a .gguf file.
        steps: optimizer steps of each side; None: chosen for the model.
        batch_size: examples per step; None: chosen for the model.
        threads: CPU threads of each side.

    Raises:
        UsageError: too few steps.
        ModelError: the model can't be used.
    """
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as folder:
        scene = run_part(
            "memory-scene",
            {
                "model": model,
                "folder": folder,
                "steps": steps,
                "batch_size": batch_size,
                "threads": threads,
            },
            threads,
        )
        print(f"sf bench memory: {scene['steps']} steps of Trainer", file=sys.stderr)
        trainer = run_part("memory-trainer", {"folder": folder}, threads)
        print(
            f"sf bench memory: {scene['steps']} steps of a run with all that it can do",
            file=sys.stderr,
        )
        ours = run_part("memory-run", {"folder": folder}, threads)
    return BenchReport(
        "memory",
        (
            Figure(
                "ratio_to_trainer",
                "peak memory with probes, drift and anchor, relative to Trainer",
                ours["trained_peak_bytes"] / trainer["peak_bytes"],
                "at most 1.1",
            ),
            Figure(
                "ratio_with_test",
                "the same with a recovery test of the loss, and a freeze",
                ours["peak_bytes"] / trainer["peak_bytes"],
                "at most 1.1",
            ),
        ),
        {
            "model": model,
            "parameters": ours["parameters"],
            "threads": threads,
            "device": ours["device"],
            "precision": ours["precision"],
            "batch size": scene["batch_size"],
            "steps": scene["steps"],
            "repetitions": 1,
        },
        {
            "peak_bytes": ours["peak_bytes"],
            "trained_peak_bytes": ours["trained_peak_bytes"],
            "trainer_peak_bytes": trainer["peak_bytes"],
            "loaded_bytes": ours["loaded_bytes"],
            "trainer_loaded_bytes": trainer["loaded_bytes"],
            "probes": ours["probes"],
            "checkpoints": ours["checkpoints"],
            "frozen_layers": ours["frozen_layers"],
            "verdict": ours["verdict"],
        },
    )


_STAGE = "new"
_STARTER_STEPS = 60
_OWN_STEPS = 20
_PROBE_EVERY = 5
_FEWEST_STEPS = 4 * _PROBE_EVERY


def make_memory_scene(
    model: str, folder: str, steps: int | None, batch_size: int | None, threads: int
) -> dict[str, Any]:
    """Write the profile that both sides use to `folder`.

    Raises:
        UsageError: too few steps.
        ModelError: the model can't be used.
    """
    steps = steps or (_STARTER_STEPS if is_starter(model) else _OWN_STEPS)
    if steps < _FEWEST_STEPS:
        raise UsageError(
            f"--steps {steps}: too few for probes, checkpoints and a freeze",
            f"at least {_FEWEST_STEPS}",
        )
    profile = make_scene(
        model,
        Path(folder),
        batch_size=batch_size,
        threads=threads,
        settings={
            "train.steps": steps,
            "train.warmup_steps": 0,
            "probe.every_in_window": _PROBE_EVERY,
            "checkpoint.every": steps // 4,
        },
    )
    _scene_file(folder).write_text(dump_profile(profile), encoding="utf-8")
    return {"steps": steps, "batch_size": profile.stage_train(_STAGE).batch_size}


def measure_run(folder: str) -> dict[str, Any]:
    """Run the profile; return the memory peak and what was done."""
    profile = load_profile(_scene_file(folder))
    steps = profile.stage_train(_STAGE).steps or 0
    run = RunDirectory.create(
        Path(folder) / "run",
        profile_text=dump_profile(profile),
        profile_name=profile.name,
        argv=["sf", "bench"],
    )
    loaded_bytes = trained_peak_bytes = 0
    asked = {steps // 4: "anchor", steps // 2: "diagnose", 3 * steps // 4: "freeze"}

    def hear(event: Event) -> None:
        nonlocal loaded_bytes, trained_peak_bytes
        if isinstance(event, RunStarted):
            loaded_bytes = peak_memory_bytes()
        if isinstance(event, Step) and event.step in asked:
            action = asked[event.step]
            if action == "diagnose":
                # What follows is the test's.
                trained_peak_bytes = _peak_bytes()
            request_command(run, action, by="bench")

    worker = Worker(run, StopSignals())
    worker.listen(hear)
    worker.work()
    events = list(read_events(run.events))
    started = next(event for event in events if isinstance(event, RunStarted))
    last_drift = [event for event in events if isinstance(event, Drift)][-1]
    frozen = sum(layer.frozen for layer in last_drift.layers)
    if not frozen:
        raise RunError("the freeze did not happen", f"see {run.events}")
    if not any(event.losses.get("anchor") for event in events if isinstance(event, Step)):
        raise RunError("the run was not anchored", f"see {run.events}")
    tested = [event for event in events if isinstance(event, DiagnosisMade)]
    if not tested:
        raise RunError("the recovery test did not happen", f"see {run.events}")
    return {
        "peak_bytes": _peak_bytes(),
        "trained_peak_bytes": trained_peak_bytes,
        "verdict": tested[-1].verdict,
        "loaded_bytes": loaded_bytes,
        "parameters": started.model.parameters,
        "device": started.device,
        "precision": started.precision,
        "probes": sum(isinstance(event, Probe) for event in events),
        "checkpoints": sum(isinstance(event, CheckpointWritten) for event in events),
        "frozen_layers": frozen,
    }


def measure_trainer(folder: str) -> dict[str, Any]:
    """Train on the same rows with Trainer; return the memory peak."""
    profile = load_profile(_scene_file(folder))
    settings = profile.stage_train(_STAGE)
    prepared = prepare_run(profile, settings.threads)
    loaded_bytes = peak_memory_bytes()
    steps = settings.total_steps(len(prepared.tasks[_STAGE].train))
    rows = rows_in_order(
        prepared.tasks[_STAGE].train, settings, stage=_STAGE, seed=profile.seed, steps=steps
    )
    make_trainer(
        prepared.loaded.model,
        rows,
        settings,
        prepared.compute,
        steps=steps,
        pad_id=prepared.loaded.pad_id,
        folder=Path(folder) / "trainer",
    ).train()
    return {"peak_bytes": _peak_bytes(), "loaded_bytes": loaded_bytes}


def _scene_file(folder: str) -> Path:
    return Path(folder) / "scene.toml"


def _peak_bytes() -> int:
    """Return the peak of the memory that holds the model: the GPU's, or this process's."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return peak_memory_bytes()
