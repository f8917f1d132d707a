"""`sf bench overhead`: what probes and an anchor cost a run, and what probes save on `generate`.

Two workers play the same run side by side, one with the default probes and one with none but the
full ones at the stage's start and end, a step each in turn. All that a probe brings with it
is in its cost: drift, events, rules.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sf_tui.bench.against_generate import BATCH_SIZES, LONG_ANSWER, Comparison
from sf_tui.bench.alternating import PassOn, alternate
from sf_tui.bench.anchor_cost import AnchorCost, measure_anchor
from sf_tui.bench.clock import Clock
from sf_tui.bench.probe_cost import Schedule, probe_cost
from sf_tui.bench.report import BenchReport, Figure
from sf_tui.bench.scene import is_starter, make_scene
from sf_tui.engine.drift import DriftMeter
from sf_tui.engine.freezing import Freezer
from sf_tui.engine.prepare import PreparedRun, prepare_run
from sf_tui.errors import UsageError
from sf_tui.profile import ModelSettings, Profile, dump_profile
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import Event, read_events
from sf_tui.worker.signals import StopSignals
from sf_tui.worker.worker import Worker

_STAGE = "new"
_NEVER = 1_000_000
_STARTER_STEPS = 300
_OWN_STEPS = 100
_DRIFT_REPETITIONS = 5
_ANCHORED_STEPS = 24


def measure_overhead(
    model: str, steps: int | None, batch_size: int | None, threads: int
) -> dict[str, Any]:
    """Measure probes and the anchor on one model; see `sf bench overhead --help`.

    Args:
        model: `starter:NAME`, a directory or a .gguf file.
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
        schedule = Schedule(window, every, every_in_window)
        legs, bare_legs = alternate(_Legs(probed).play, _Legs(bare).play)
        tuned = profile.model_copy(update={"model": ModelSettings(source=str(probed.model))})
        prepared = prepare_run(tuned, threads)
        clock = Clock.for_device(prepared.compute.device.type, threads)
        # The first leg holds the preparation, the full probe and the first step.
        cost = probe_cost(schedule, clock.seconds(legs[1:]), clock.seconds(bare_legs[1:]))
        wall = Clock(by_processor=False)
        by_wall = probe_cost(schedule, wall.seconds(legs[1:]), wall.seconds(bare_legs[1:]))
        tokens = prepared.tasks[_STAGE].mean_length * profile.stage_train(_STAGE).batch_size
        second_a_token = (cost.seconds_a_step_in_window + cost.seconds_a_step_outside) / 2 / tokens
        drift = _time_drift(prepared, probed, clock)
        speed, speed_measured = _against_generate(prepared, clock)
        _say(f"{_ANCHORED_STEPS} anchored steps and as many plain ones, by turns")
        anchor = measure_anchor(profile, _STAGE, _ANCHORED_STEPS, threads)
        report = BenchReport(
            "overhead",
            (
                Figure(
                    "in_window",
                    "cost of probes in the danger window, by the run's time without them",
                    cost.in_window,
                    "at most 0.12",
                ),
                Figure("outside", "cost of probes outside of it", cost.outside, "at most 0.04"),
                *speed,
                *_anchor_figures(anchor),
            ),
            {
                "model": model,
                "parameters": prepared.layout.elements,
                "threads": threads,
                "device": str(prepared.compute.device),
                "batch size": profile.stage_train(_STAGE).batch_size,
                "batch against generate": BATCH_SIZES[0],
                "clock": clock.name,
                "steps": window + outside,
                "probe every": f"{every_in_window} and {every} steps",
                "repetitions": cost.probes,
                "anchored steps": anchor.repetitions,
                "neighbor prompts": anchor.cache_prompts,
            },
            {
                **asdict(cost),
                "in_window_by_wall": by_wall.in_window,
                "outside_by_wall": by_wall.outside,
                "examples_a_probe": _examples_a_probe(probed),
                "tokens_a_step": tokens,
                "seconds_a_trained_token": second_a_token,
                "drift_seconds": drift,
                "drift_in_trained_tokens": drift / second_a_token,
                **speed_measured,
                "anchor": asdict(anchor),
            },
        )
    return report.as_plain()


def _anchor_figures(anchor: AnchorCost) -> tuple[Figure, ...]:
    return (
        Figure(
            "anchored_step",
            "an anchored step by a plain one, as many neighbor prompts as new rows",
            anchor.times_a_plain_step,
            "at most 2.5",
        ),
        Figure(
            "anchor_cache_seconds",
            f"once: the start model's answers to {anchor.cache_prompts} neighbor prompts",
            anchor.cache_seconds,
        ),
        Figure(
            "anchor_cache_steps", "the same as a number of plain steps", anchor.cache_in_plain_steps
        ),
    )


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
    """One worker, whose run ends a leg after each step, before what follows it."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._pass_on: PassOn = lambda: None

    def play(self, pass_on: PassOn) -> None:
        """Play the whole run."""
        self._pass_on = pass_on
        worker = Worker(self._run, StopSignals())
        worker.listen(self._hear)
        worker.work()

    def _hear(self, event: Event) -> None:
        # What comes after a step (its probe, drift, rules) is told after its `step` event.
        if event["type"] == "step":
            self._pass_on()


def _examples_a_probe(run: RunDirectory) -> dict[str, int]:
    """Return how many examples of each task a probe took."""
    probes = (event for event in read_events(run.events) if event["type"] == "probe")
    first = next(event for event in probes if not event["full"])
    return {task: measures["n"] for task, measures in first["accuracy"].items()}


def _time_drift(prepared: PreparedRun, run: RunDirectory, clock: Clock) -> float:
    """Return the seconds that a measurement of drift takes."""
    start = run.checkpoints / _STAGE / "step-000000"
    meter = DriftMeter(prepared.layout, Freezer(prepared.layout), start)
    seconds = []
    for _ in range(_DRIFT_REPETITIONS):
        begun = clock.now()
        meter.measure()
        seconds.append(clock.now() - begun)
    return statistics.median(seconds)


def _against_generate(
    prepared: PreparedRun, clock: Clock
) -> tuple[tuple[Figure, ...], dict[str, Any]]:
    rows = [row for task in prepared.tasks.values() for row in task.held_out]
    comparison = Comparison(prepared.loaded, prepared.compute, rows, clock)
    _say(f"greedy generate on {len(rows)} held-out examples")
    by_probe, by_generate = comparison.exact(BATCH_SIZES[-1])
    batches = ", ".join(map(str, BATCH_SIZES))
    _say(f"speed against generate, {batches} examples at once")
    short = [comparison.speed(size, None) for size in BATCH_SIZES]
    long = [comparison.speed(size, LONG_ANSWER) for size in BATCH_SIZES]
    figures = (
        Figure(
            "times_faster_than_generate",
            f"one pass against generate, one example at once, answers of {LONG_ANSWER} tokens",
            long[0].times_faster,
            "at least 5",
        ),
        Figure(
            "times_faster_than_generate_short",
            f"the same, the tasks' own answers ({short[0].answer_tokens:g} tokens)",
            short[0].times_faster,
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
        "against_generate_short": [asdict(speed) for speed in short],
        "against_generate_long": [asdict(speed) for speed in long],
    }


def _say(what: str) -> None:
    print(f"sf bench overhead: {what}", file=sys.stderr, flush=True)
