"""`sf bench overhead`: cost of probes and of an anchor, and speed of a probe against `generate`.

Two workers run the same profile side by side, one step each in turn: one with the default probes,
one with only the full probes at the start and end of the stage. The cost of a probe includes
everything that comes with it: drift, events, rules.

A leg lasts from the end of one step to the end of the next. All probes of a stage use the same
examples, so each adds the same time, while steps differ in length. The cost is therefore the
median time that a probe adds, divided by the mean time from probe to probe without it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sf_tui.bench.freeze_gain import AnchorCost, measure_anchor
from sf_tui.bench.generation import BATCH_SIZES, LONG_ANSWER, Comparison
from sf_tui.bench.harness import BenchReport, Clock, Figure, PassOn, alternate, median_ratio
from sf_tui.bench.scene import is_starter, make_scene, scene_facts
from sf_tui.engine.layout import Freezer
from sf_tui.engine.prepare import PreparedRun, prepare_run
from sf_tui.engine.start_weights import DriftMeter
from sf_tui.errors import UsageError
from sf_tui.profile import ModelSettings, Profile, dump_profile
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_events
from sf_tui.vocabulary.events import Event, Probe, StageStarted, Step
from sf_tui.worker.stop import StopSignals
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
    """Measure probes and an anchor on one model; see `sf bench overhead --help`.

    Args:
        model: `starter:NAME`, a directory or a .gguf file.
        steps: optimizer steps of each run, half of them in the danger window; None: chosen for
            the model.
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
        scene = make_scene(
            model,
            folder,
            batch_size=batch_size,
            threads=threads,
            settings={"checkpoint.every": _NEVER},
        )
        window, outside = split_steps(model, steps, scene)
        # One extra step, so that the last leg ends before the full probe at the stage's end.
        profile = _lasting(scene, window, window + outside + 1)
        probed = _make_run(folder / "probed", profile)
        bare = _make_run(folder / "bare", _without_probes(profile))
        _log(f"{window + outside} steps with probes and as many without, in turn")
        legs, bare_legs = alternate(_Legs(probed).play, _Legs(bare).play)
        schedule = schedule_of(probed, window)
        tuned = profile.model_copy(update={"model": ModelSettings(source=str(probed.model))})
        prepared = prepare_run(tuned, threads)
        clock = Clock.for_device(prepared.compute.device.type, threads)
        # The first leg includes preparation, the full probe and the first step.
        cost = probe_cost(schedule, clock.seconds(legs[1:]), clock.seconds(bare_legs[1:]))
        wall = Clock(by_processor=False)
        by_wall = probe_cost(schedule, wall.seconds(legs[1:]), wall.seconds(bare_legs[1:]))
        tokens = prepared.tasks[_STAGE].mean_length * profile.stage_train(_STAGE).batch_size
        second_a_token = (cost.seconds_a_step_in_window + cost.seconds_a_step_outside) / 2 / tokens
        drift = _time_drift(prepared, probed, clock)
        speed, speed_measured = _against_generate(prepared, clock)
        _log(f"{_ANCHORED_STEPS} anchored steps and as many plain ones, in turn")
        anchor = measure_anchor(profile, _STAGE, _ANCHORED_STEPS, threads)
        report = BenchReport(
            "overhead",
            (
                Figure(
                    "in_window",
                    "cost of probes in the danger window, relative to the time without them",
                    cost.in_window,
                    "at most 0.12",
                ),
                Figure("outside", "the same outside the window", cost.outside, "at most 0.04"),
                *speed,
                *_anchor_figures(anchor),
            ),
            {
                **scene_facts(model, prepared, _STAGE, threads),
                "batch against generate": BATCH_SIZES[0],
                "clock": clock.name,
                "steps": window + outside,
                "probe every": f"{schedule.every_in_window} and {schedule.every} steps",
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
            "time of an anchored step relative to a plain one (as many neighbors as rows)",
            anchor.times_a_plain_step,
            "at most 2.5",
        ),
        Figure(
            "anchor_cache_seconds",
            f"once per stage: the start model's answers to {anchor.cache_prompts} neighbor prompts",
            anchor.cache_seconds,
        ),
        Figure("anchor_cache_steps", "the same, in plain steps", anchor.cache_in_plain_steps),
    )


def split_steps(model: str, steps: int | None, scene: Profile) -> tuple[int, int]:
    """Return the steps in the window and outside it: halves, in whole probe intervals.

    Args:
        model: what is measured.
        steps: optimizer steps in all; None: chosen for the model.
        scene: how often it probes.

    Raises:
        UsageError: too few steps.
    """
    steps = steps or (_STARTER_STEPS if is_starter(model) else _OWN_STEPS)
    every, every_in_window = scene.probe.every, scene.probe.every_in_window
    outside = steps // 2 // every * every
    window = (steps - outside) // every_in_window * every_in_window
    if not (outside and window):
        raise UsageError(
            f"--steps {steps}: too few for a probe outside the danger window",
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
    """A worker that ends a leg after each step, before the work that follows the step."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._pass_on: PassOn = lambda: None

    def play(self, pass_on: PassOn) -> None:
        """Run the whole profile."""
        self._pass_on = pass_on
        worker = Worker(self._run, StopSignals())
        worker.listen(self._hear)
        worker.work()

    def _hear(self, event: Event) -> None:
        # The work after a step (probe, drift, rules) is logged after its `step` event.
        if isinstance(event, Step):
            self._pass_on()


def schedule_of(run: RunDirectory, window: int) -> Schedule:
    """Return the steps at which a run probed: the budget may have bought fewer probes."""
    started = (event for event in read_events(run.events) if isinstance(event, StageStarted))
    stage = next(event for event in started if event.stage == _STAGE)
    return Schedule(window, stage.probe_every, stage.probe_every_in_window)


def _examples_a_probe(run: RunDirectory) -> dict[str, int]:
    """Return how many examples of each task a probe uses."""
    probes = (event for event in read_events(run.events) if isinstance(event, Probe))
    first = next(event for event in probes if not event.full)
    return {task: int(measures["n"] or 0) for task, measures in first.metrics.items()}


def _time_drift(prepared: PreparedRun, run: RunDirectory, clock: Clock) -> float:
    """Return the median time of a drift measurement in seconds."""
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
    _log(f"greedy `generate` on {len(rows)} held-out examples")
    by_probe, by_generate = comparison.exact(BATCH_SIZES[-1])
    batches = ", ".join(map(str, BATCH_SIZES))
    _log(f"speed against `generate`, {batches} examples at once")
    short = [comparison.speed(size, None) for size in BATCH_SIZES]
    long = [comparison.speed(size, LONG_ANSWER) for size in BATCH_SIZES]
    figures = (
        Figure(
            "times_faster_than_generate",
            f"a probe's speed relative to generate, batch 1, answers of {LONG_ANSWER} tokens",
            long[0].times_faster,
            "at least 5",
        ),
        Figure(
            "times_faster_than_generate_short",
            f"the same with the tasks' own answers ({short[0].answer_tokens:g} tokens)",
            short[0].times_faster,
        ),
        Figure(
            "agreement",
            "share of held-out examples with the same exact match by both",
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


def _log(what: str) -> None:
    print(f"sf bench overhead: {what}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Schedule:
    """The steps at which a run probes."""

    window: int
    every: int
    every_in_window: int

    def holds_probe(self, index: int) -> bool:
        """Return whether leg `index`, which follows step `index` + 1, contains a probe."""
        step = index + 1
        return step % (self.every_in_window if step <= self.window else self.every) == 0


@dataclass(frozen=True)
class ProbeCost:
    """The cost of probes; seconds are medians or means over legs."""

    in_window: float
    """Relative to the time of the same run in the danger window without probes."""
    outside: float
    probes: int
    seconds_a_probe: float
    seconds_a_step_in_window: float
    seconds_a_step_outside: float
    legs_without_probe: float
    """Time of the legs without a probe relative to the same legs of the other run; 1 when the
    probes account for the whole cost."""


def probe_cost(schedule: Schedule, probed: Sequence[float], bare: Sequence[float]) -> ProbeCost:
    """Compare the legs of a run with those of the same run without probes.

    Args:
        schedule: the steps at which the first run probes.
        probed: seconds of each leg; the first lasts from the end of step 1 to the end of step 2.
        bare: the same for the run without probes.
    """
    holding = [at for at in range(len(probed)) if schedule.holds_probe(at)]
    others = [at for at in range(len(probed)) if not schedule.holds_probe(at)]
    added = statistics.median(probed[at] - bare[at] for at in holding)
    inside = statistics.mean(bare[: schedule.window])
    outside = statistics.mean(bare[schedule.window :])
    return ProbeCost(
        added / (inside * schedule.every_in_window),
        added / (outside * schedule.every),
        len(holding),
        added,
        inside,
        outside,
        median_ratio([probed[at] for at in others], [bare[at] for at in others]) if others else 1.0,
    )
