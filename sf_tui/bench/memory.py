"""`sf bench memory`: the peak memory of a run beside that of transformers' Trainer.

Each side is a process of its own, one after the other; this one only compares. What the sides do
is told in `memory_sides`.
"""

from __future__ import annotations

import sys
import tempfile

from sf_tui.bench.processes import run_part
from sf_tui.bench.report import BenchReport, Figure


def measure_memory(
    model: str, steps: int | None, batch_size: int | None, threads: int
) -> BenchReport:
    """Measure peak memory on one model; see `sf bench memory --help`.

    Args:
        model: `starter:NAME`, a directory or a .gguf file.
        steps: optimizer steps of each side; None for the model's own number.
        batch_size: examples a step.
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
            f"sf bench memory: {scene['steps']} steps of a run with probes, checkpoints, a freeze",
            file=sys.stderr,
        )
        ours = run_part("memory-run", {"folder": folder}, threads)
    return BenchReport(
        "memory",
        (
            Figure(
                "ratio_to_trainer",
                "peak memory of a run by that of transformers' Trainer",
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
            "trainer_peak_bytes": trainer["peak_bytes"],
            "loaded_bytes": ours["loaded_bytes"],
            "trainer_loaded_bytes": trainer["loaded_bytes"],
            "probes": ours["probes"],
            "checkpoints": ours["checkpoints"],
            "frozen_layers": ours["frozen_layers"],
        },
    )
