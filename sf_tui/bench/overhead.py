"""`sf bench overhead`: what probes cost a run, and what they save against `generate`.

Two workers play the same run side by side, one with the default probes and one with none but the
full ones at the stage's start and end, a few steps each in turn. All that a probe brings with it
is in its cost: drift, events, rules.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sf_tui.bench.against_generate import GENERATE_BATCH_SIZE, LONG_ANSWER, Comparison
from sf_tui.bench.alternating import PassOn, alternate, group_legs, median_ratio
from sf_tui.bench.report import BenchReport, Figure
from sf_tui.bench.scene import is_starter, make_scene
from sf_tui.engine.drift import DriftMeter
from sf_tui.engine.freezing import Freezer
from sf_tui.errors import UsageError
from sf_tui.profile import ModelSettings, Profile, dump_profile
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import Event, read_events
from sf_tui.worker.preparation import Prepared, prepare_run
from sf_tui.worker.signals import StopSignals
from sf_tui.worker.worker import Worker

_STAGE = "new"
_NEVER = 1_000_000
_STARTER_STEPS = 300
_OWN_STEPS = 100
_DRIFT_REPETITIONS = 5


def measure_overhead(
    model: str, steps: int | None, batch_size: int | None, threads: int
) -> dict[str, Any]:
    """Measure probes on one model; see `sf bench overhead --help`.

    Args:
        model: `starter:NAME`, a directory, a .gguf file or a hub id.
        steps: optimizer steps of each run, half of them in the danger window; None for the
            model's own number.
        batch_size: examples a step.
        threads: CPU threads, pinned already.

    Returns:
        A `BenchReport` as plain types.

    Raises:
        UsageError: too few steps.
        ModelError: the model can't be used.
    """
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as name:
        folder = Path(name)
        scene = make_scene(
            model,
            folder,
            batch_size=batch_size,
            threads=threads,
            settings={"checkpoint.every": _NEVER},
        )
        every, every_in_window = scene.probe.every, scene.probe.every_in_window
        window, outside = _split_steps(
            steps or (_STARTER_STEPS if is_starter(model) else _OWN_STEPS), every, every_in_window
        )
        # One step more, so that the last leg ends before the stage's last, full probe.
        profile = _lasting(scene, window, window + outside + 1)
        probed = _make_run(folder / "probed", profile)
        bare = _make_run(folder / "bare", _without_probes(profile))
        _say(f"{window + outside} steps with probes and as many without, by turns")
        leg = math.gcd(every, every_in_window)
        legs, bare_legs = alternate(_Legs(probed, leg).play, _Legs(bare, leg).play)
        # The first leg holds the preparation, the full probe and the first step.
        legs, bare_legs = legs[1:], bare_legs[1:]
        in_window = _Pairs.of(legs, bare_legs, slice(0, window // leg), every_in_window // leg)
        beyond = _Pairs.of(legs, bare_legs, slice(window // leg, None), every // leg)
        tuned = profile.model_copy(update={"model": ModelSettings(source=str(probed.model))})
        prepared = prepare_run(tuned, threads)
        tokens = prepared.tasks[_STAGE].mean_length * profile.stage_train(_STAGE).batch_size
        second_a_token = sum(bare_legs) / (window + outside) / tokens
        drift = _time_drift(prepared, probed)
        speed, speed_measured = _against_generate(prepared)
        report = BenchReport(
            "overhead",
            (
                Figure(
                    "in_window",
                    "cost of probes in the danger window, by the run's time without them",
                    in_window.cost,
                    "at most 0.12",
                ),
                Figure("outside", "cost of probes outside of it", beyond.cost, "at most 0.04"),
                *speed,
            ),
            {
                "model": model,
                "parameters": prepared.layout.elements,
                "threads": torch.get_num_threads(),
                "device": str(prepared.compute.device),
                "batch size": profile.stage_train(_STAGE).batch_size,
                "batch against generate": GENERATE_BATCH_SIZE,
                "steps": window + outside,
                "probe every": f"{every_in_window} and {every} steps",
                "repetitions in the window": len(in_window.probed),
                "repetitions outside": len(beyond.probed),
            },
            {
                "seconds_in_window": sum(in_window.probed),
                "seconds_in_window_without": sum(in_window.bare),
                "seconds_outside": sum(beyond.probed),
                "seconds_outside_without": sum(beyond.bare),
                "examples_a_probe": _examples_a_probe(probed),
                "tokens_a_step": tokens,
                "seconds_a_trained_token": second_a_token,
                "drift_seconds": drift,
                "drift_in_trained_tokens": drift / second_a_token,
                **speed_measured,
            },
        )
    return report.as_plain()


def _split_steps(steps: int, every: int, every_in_window: int) -> tuple[int, int]:
    """Return steps in the window and outside of it: halves, in whole probe intervals."""
    outside = steps // 2 // every * every
    window = (steps - outside) // every_in_window * every_in_window
    if not (outside and window):
        raise UsageError(
            f"--steps {steps}: too few to hold a probe outside the danger window",
            f"at least {2 * every}",
        )
    return window, outside


def _lasting(profile: Profile, window: int, steps: int) -> Profile:
    return profile.model_copy(
        update={
            "train": profile.train.model_copy(update={"steps": steps}),
            "window": profile.window.model_copy(update={"steps": window}),
        }
    )


def _without_probes(profile: Profile) -> Profile:
    never = {"every": _NEVER, "every_in_window": _NEVER}
    return profile.model_copy(update={"probe": profile.probe.model_copy(update=never)})


def _make_run(path: Path, profile: Profile) -> RunDirectory:
    return RunDirectory.create(
        path, profile_text=dump_profile(profile), profile_name=profile.name, argv=["sf", "bench"]
    )


class _Legs:
    """One worker, whose run ends a leg after step 1 and then after every few steps."""

    def __init__(self, run: RunDirectory, steps: int) -> None:
        self._run = run
        self._steps = steps
        self._pass_on: PassOn = lambda: None

    def play(self, pass_on: PassOn) -> None:
        """Play the whole run."""
        self._pass_on = pass_on
        worker = Worker(self._run, StopSignals())
        worker.listen(self._hear)
        worker.work()

    def _hear(self, event: Event) -> None:
        # What comes after a step (its probe, drift, rules) is told after its `step` event, so with
        # legs of 5 steps the probe after step 5 falls into the leg from step 2 to step 6.
        if event["type"] == "step" and event["step"] % self._steps == 1 % self._steps:
            self._pass_on()


@dataclass(frozen=True)
class _Pairs:
    """Seconds of neighbouring stretches of both runs, each with one probe in the one run."""

    probed: list[float]
    bare: list[float]

    @classmethod
    def of(cls, probed: Sequence[float], bare: Sequence[float], where: slice, size: int) -> _Pairs:
        """Take the legs of a part of both runs, `size` of them from probe to probe."""
        return cls(group_legs(probed[where], size), group_legs(bare[where], size))

    @property
    def cost(self) -> float:
        """What probes add, by the time without them; the median."""
        return median_ratio(self.probed, self.bare) - 1


def _examples_a_probe(run: RunDirectory) -> dict[str, int]:
    """Return how many examples of each task a probe took."""
    probes = (event for event in read_events(run.events) if event["type"] == "probe")
    first = next(event for event in probes if not event["full"])
    return {task: measures["n"] for task, measures in first["accuracy"].items()}


def _time_drift(prepared: Prepared, run: RunDirectory) -> float:
    """Return the seconds that a measurement of drift takes."""
    start = run.checkpoints / _STAGE / "step-000000"
    meter = DriftMeter(prepared.layout, Freezer(prepared.layout), start)
    seconds = []
    for _ in range(_DRIFT_REPETITIONS):
        begun = time.perf_counter()
        meter.measure()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def _against_generate(prepared: Prepared) -> tuple[tuple[Figure, ...], dict[str, Any]]:
    rows = [row for task in prepared.tasks.values() for row in task.held_out]
    comparison = Comparison(prepared.loaded, prepared.compute, rows)
    _say(f"greedy generate on {len(rows)} held-out examples")
    by_probe, by_generate = comparison.exact(GENERATE_BATCH_SIZE)
    _say(f"speed against generate, batches of {GENERATE_BATCH_SIZE}")
    short = comparison.speed(GENERATE_BATCH_SIZE, None)
    long = comparison.speed(GENERATE_BATCH_SIZE, LONG_ANSWER)
    figures = (
        Figure(
            "times_faster_than_generate",
            f"one pass against generate, answers of {LONG_ANSWER} tokens",
            long.times_faster,
            "at least 5",
        ),
        Figure(
            "times_faster_than_generate_short",
            f"the same, the tasks' own answers ({short.answer_tokens:g} tokens)",
            short.times_faster,
        ),
        Figure(
            "agreement",
            "held-out examples on which both agree about exact match",
            float((by_probe == by_generate).mean()),
            "1.0",
        ),
    )
    return figures, {
        "held_out": len(rows),
        "exact_by_probe": float(by_probe.mean()),
        "exact_by_generate": float(by_generate.mean()),
        "against_generate_short": asdict(short),
        "against_generate_long": asdict(long),
    }


def _say(what: str) -> None:
    print(f"sf bench overhead: {what}", file=sys.stderr, flush=True)
