"""`sf bench hosted`: the time that `SfCallback` adds to a training of transformers' Trainer.

Two Trainers train copies of one model on the same rows, one step each in turn; one of them is
watched. A leg lasts from the end of one step to the end of the next and includes all hooks. What a
probe adds is a median over the legs with one, spread over the steps from probe to probe; what the
hooks add is the ratio of the other legs.

All of it is done twice, with the sides exchanged (see `harness.exchanged_ratio`). What belongs to a
side is reported as `side`.
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from sf_tui.bench.harness import BenchReport, Clock, Figure, PassOn, alternate, exchanged_ratio
from sf_tui.bench.overhead import probe_cost, schedule_of, split_steps
from sf_tui.bench.scene import make_scene, scene_facts
from sf_tui.bench.throughput import make_trainer, rows_in_order
from sf_tui.engine.prepare import PreparedRun, prepare_run
from sf_tui.errors import RunError
from sf_tui.integrations import SfCallback
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_events
from sf_tui.vocabulary.events import RunFinished

_STAGE = "new"


def measure_hosted(
    model: str, steps: int | None, batch_size: int | None, threads: int
) -> dict[str, Any]:
    """Measure a watched Trainer beside a plain one; see `sf bench hosted --help`.

    Args:
        model: `starter:NAME`, a directory or a .gguf file.
        steps: optimizer steps of each side in each of two rounds, half of them in the danger
            window; None: chosen for the model.
        batch_size: examples per step; None: chosen for the model.
        threads: CPU threads, already pinned.

    Returns:
        A `BenchReport` as plain types.

    Raises:
        UsageError: too few steps.
        ModelError: the model can't be used.
    """
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as name:
        folder = Path(name)
        scene = make_scene(model, folder, batch_size=batch_size, threads=threads, settings={})
        window, outside = split_steps(model, steps, scene)
        prepared = prepare_run(scene, threads)
        print(
            f"sf bench hosted: {window + outside} watched steps and as many plain ones, in turn, "
            "twice",
            file=sys.stderr,
            flush=True,
        )
        clock = Clock.for_device(prepared.compute.device.type, threads)
        costs = []
        for number in range(2):
            place = folder / f"round-{number}"
            place.mkdir()
            watched, plain, run = _side_by_side(
                prepared, place, window, window + outside + 1, watched_at=number
            )
            schedule = schedule_of(run, window)
            costs.append(probe_cost(schedule, clock.seconds(watched[1:]), clock.seconds(plain[1:])))
        ratio, side = exchanged_ratio(*(cost.legs_without_probe for cost in costs))
        hooks = ratio - 1
        outside_probes = statistics.mean(cost.outside for cost in costs)
        probes_in_window = statistics.mean(cost.in_window for cost in costs)
        report = BenchReport(
            "hosted",
            (
                Figure(
                    "outside",
                    "time that a watched Trainer takes longer outside the danger window",
                    outside_probes + hooks,
                    "at most 0.03",
                ),
                Figure("in_window", "the same in the danger window", probes_in_window + hooks),
                Figure("hooks", "of it, what every step takes longer, without probes", hooks),
            ),
            {
                **scene_facts(model, prepared, _STAGE, threads),
                "clock": clock.name,
                "steps": window + outside,
                "probe every": f"{schedule.every_in_window} and {schedule.every} steps",
                "repetitions": sum(cost.probes for cost in costs),
            },
            {
                "rounds": [asdict(cost) for cost in costs],
                "side": side,
            },
        )
    return report.as_plain()


def _side_by_side(
    prepared: PreparedRun, folder: Path, window: int, steps: int, *, watched_at: int
) -> tuple[list[Any], list[Any], RunDirectory]:
    """Train two copies of a model in turn.

    Args:
        prepared: the scene; its model stays as it is.
        folder: for the run and the Trainer's output.
        window: steps of the danger window.
        steps: steps of each side.
        watched_at: whether the first side is watched (0) or the second (1).

    Returns:
        The legs of the watched side and of the other one, and the run.
    """
    profile, compute, loaded = prepared.profile, prepared.compute, prepared.loaded
    task, settings = prepared.tasks[_STAGE], profile.stage_train(_STAGE)
    rows = rows_in_order(task.train, settings, stage=_STAGE, seed=profile.seed, steps=steps)
    watch = folder / "watch.toml"
    watch.write_text(f"[window]\nsteps = {window}\n", encoding="utf-8")
    examples = folder / "watched-old.jsonl"
    _write_old_examples(prepared, examples)
    run = RunDirectory(folder / "watched")
    models = [copy.deepcopy(loaded.model) for _ in range(2)]

    def train(model: Any, callbacks: Sequence[TrainerCallback], pass_on: PassOn) -> None:
        torch.set_num_threads(settings.threads or torch.get_num_threads())

        def at_step_end() -> None:
            if compute.device.type == "cuda":
                torch.cuda.synchronize()
            pass_on()

        make_trainer(
            model,
            rows,
            settings,
            compute,
            steps=steps,
            pad_id=loaded.pad_id,
            folder=folder / "trainer",
            at_step_end=at_step_end,
            tokenizer=loaded.tokenizer,
            callbacks=callbacks,
        ).train()

    callbacks: list[list[TrainerCallback]] = [[], []]
    callbacks[watched_at].append(SfCallback(examples, watch, run.path))
    legs = alternate(
        lambda pass_on: train(models[0], callbacks[0], pass_on),
        lambda pass_on: train(models[1], callbacks[1], pass_on),
    )
    ended = [event for event in read_events(run.events) if isinstance(event, RunFinished)]
    if not ended or ended[0].status != "completed":
        # The watching never ends a training, so its failure has to be looked for.
        raise RunError(
            f"the Trainer was not watched to its end: {ended[0].reason if ended else 'no run'}",
            "its output above says why",
        )
    return legs[watched_at], legs[1 - watched_at], run


def _write_old_examples(prepared: PreparedRun, path: Path) -> None:
    """Write the held-out rows of the task that the scene watches."""
    (name,) = (name for name in prepared.tasks if name != _STAGE)
    rows = (
        {"prompt": example.prompt, "completion": example.completion}
        for example in prepared.tasks[name].task.held_out
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
