"""`sf bench throughput`: tokens a second beside transformers' Trainer, and what a freeze gains.

Both sides do the same steps on the same rows from the same weights, a step each in turn; neither
probes, logs or saves.
"""

from __future__ import annotations

import copy
import math
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sf_tui.bench.alternating import PassOn, alternate, median_ratio
from sf_tui.bench.clock import Clock, Reading
from sf_tui.bench.freeze_gain import measure_freeze_gain
from sf_tui.bench.report import BenchReport, Figure
from sf_tui.bench.scene import is_starter, make_scene
from sf_tui.bench.trainer_peer import make_trainer, rows_in_order
from sf_tui.engine.prepare import PreparedRun, prepare_run
from sf_tui.engine.tuning import StageTuner

_STAGE = "new"
_STARTER_STEPS = 100
_OWN_STEPS = 20
# The first steps fill caches and the optimizer's state.
_WARM_UP = 2


def measure_throughput(
    model: str, steps: int | None, batch_size: int | None, threads: int
) -> dict[str, Any]:
    """Measure training speed on one model; see `sf bench throughput --help`.

    Args:
        model: `starter:NAME`, a directory or a .gguf file.
        steps: timed optimizer steps of each side; None for the model's own number.
        batch_size: examples a step.
        threads: CPU threads, pinned already.

    Returns:
        A `BenchReport` as plain types.

    Raises:
        ModelError: the model can't be used.
    """
    timed = steps or (_STARTER_STEPS if is_starter(model) else _OWN_STEPS)
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as name:
        folder = Path(name)
        profile = make_scene(
            model,
            folder,
            batch_size=batch_size,
            threads=threads,
            # Trainer counts warm-up steps from 0, we from 1.
            settings={"train.steps": timed + _WARM_UP, "train.warmup_steps": 0},
        )
        prepared = prepare_run(profile, threads)
        settings = profile.stage_train(_STAGE)
        _say(f"{timed} steps of each side, by turns")
        legs, trainer_legs, difference = _beside_trainer(prepared, folder)
        clock = Clock.for_device(prepared.compute.device.type, threads)
        ours, trainer = clock.seconds(legs), clock.seconds(trainer_legs)
        _say(f"{timed} whole and {timed} half-frozen steps, by turns")
        first = rows_in_order(
            prepared.tasks[_STAGE].train, settings, stage=_STAGE, seed=profile.seed, steps=1
        )
        gain = measure_freeze_gain(prepared, first, settings, clock, repetitions=timed)
    tokens = prepared.tasks[_STAGE].mean_length * settings.batch_size
    report = BenchReport(
        "throughput",
        (
            Figure(
                "ratio_to_trainer",
                "tokens a second by those of transformers' Trainer",
                median_ratio(trainer, ours),
                "at least 1",
            ),
            Figure(
                "freeze_gain_share",
                "time that freezing half of the blocks saves, by what it could save",
                gain.share,
                "at least 0.8",
            ),
        ),
        {
            "model": model,
            "parameters": prepared.layout.elements,
            "threads": threads,
            "clock": clock.name,
            "device": str(prepared.compute.device),
            "precision": prepared.compute.precision,
            "batch size": settings.batch_size,
            "repetitions": timed,
        },
        {
            "tokens_per_second": tokens / statistics.median(ours),
            "trainer_tokens_per_second": tokens / statistics.median(trainer),
            "ratio_in_sum": sum(trainer) / sum(ours),
            "ratio_by_wall": median_ratio(
                [leg.wall for leg in trainer_legs], [leg.wall for leg in legs]
            ),
            "weights_apart": difference,
            **{f"freeze_{name}": value for name, value in asdict(gain).items() if name != "share"},
        },
    )
    return report.as_plain()


def _beside_trainer(
    prepared: PreparedRun, folder: Path
) -> tuple[list[Reading], list[Reading], float]:
    """Train the same model twice, by turns.

    Returns:
        What each timed step took, ours and Trainer's, and how far the weights are apart at the
        end, by how far they have moved: near 0 when both did the same work.
    """
    profile, compute, loaded = prepared.profile, prepared.compute, prepared.loaded
    task, settings = prepared.tasks[_STAGE], profile.stage_train(_STAGE)
    model: Any = loaded.model
    peer = copy.deepcopy(model)
    start = [parameter.detach().cpu().clone() for parameter in model.parameters()]
    steps = settings.total_steps(len(task.train))
    rows = rows_in_order(task.train, settings, stage=_STAGE, seed=profile.seed, steps=steps)

    def tune(pass_on: PassOn) -> None:
        torch.set_num_threads(settings.threads or torch.get_num_threads())
        tuner = StageTuner(
            model,
            prepared.layout,
            task.train,
            settings,
            compute,
            stage=_STAGE,
            seed=profile.seed,
            pad_id=loaded.pad_id,
        )
        for _ in range(steps):
            tuner.advance()
            _finish(compute.device)
            pass_on()

    def train(pass_on: PassOn) -> None:
        torch.set_num_threads(settings.threads or torch.get_num_threads())

        def at_step_end() -> None:
            _finish(compute.device)
            pass_on()

        make_trainer(
            peer,
            rows,
            settings,
            compute,
            steps=steps,
            pad_id=loaded.pad_id,
            folder=folder / "trainer",
            at_step_end=at_step_end,
        ).train()

    ours, trainers = alternate(tune, train)
    apart = _apart(start, list(model.parameters()), list(peer.parameters()))
    return ours[_WARM_UP:], trainers[_WARM_UP:], apart


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


@torch.no_grad()
def _apart(
    start: list[torch.Tensor], ours: list[torch.Tensor], theirs: list[torch.Tensor]
) -> float:
    apart = moved = 0.0
    for before, one, other in zip(start, ours, theirs, strict=True):
        apart += float((one - other).double().square().sum())
        moved += float((one.cpu() - before).double().square().sum())
    return math.sqrt(apart / max(moved, 1e-30))


def _say(what: str) -> None:
    print(f"sf bench throughput: {what}", file=sys.stderr, flush=True)
