"""`sf bench overhead`: what probes cost a run, and what they save against `generate`.

Two workers play the same run side by side, one with the default probes and one with none but the
full ones at the stage's start and end, a few steps each in turn. Everything that a probe brings
with it is in it: drift, events, rules.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from sf_tui.bench.alternating import PassOn, alternate, group_legs, median_ratio
from sf_tui.bench.greedy import (
    GreedyDecoder,
    Question,
    batch_prober,
    time_both,
    with_answers_of,
)
from sf_tui.bench.report import BenchReport, Figure
from sf_tui.bench.scene import is_starter, make_scene
from sf_tui.engine.drift import DriftMeter
from sf_tui.engine.freezing import Freezer
from sf_tui.errors import UsageError
from sf_tui.profile import ModelSettings, Profile, dump_profile
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import Event
from sf_tui.worker.preparation import Prepared, prepare_run
from sf_tui.worker.signals import StopSignals
from sf_tui.worker.worker import Worker

_STAGE = "new"
# Steps between two probes in and outside the window: the profile's defaults.
_EVERY_IN_WINDOW = 5
_EVERY = 25
_NEVER = 1_000_000
_STARTER_STEPS = 300
_OWN_STEPS = 100
_LONG_ANSWER = 64
# What transformers evaluates with when nothing is said. The larger the batch, the smaller the gain:
# `generate` is a step a token, and a step of few tokens keeps no processor busy.
_GENERATE_BATCH_SIZE = 8
_GENERATE_BATCHES = 3
_GENERATE_REPETITIONS = 3
_DRIFT_REPETITIONS = 5


def measure_overhead(
    model: str, steps: int | None, batch_size: int | None, threads: int
) -> dict[str, Any]:
    """Measure probes on one model; see `sf bench overhead --help`.

    Args:
        model: `starter:NAME`, a directory, a .gguf file or a hub id.
        steps: optimizer steps of each run, half of them in the danger window; None for the
            model's own number.
        batch_size: examples a step, and a pass where probes and `generate` are compared.
        threads: CPU threads, pinned already.

    Returns:
        A `BenchReport` as plain types.

    Raises:
        UsageError: too few steps.
        ModelError: the model can't be used.
    """
    window, outside = _split_steps(steps or (_STARTER_STEPS if is_starter(model) else _OWN_STEPS))
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as name:
        folder = Path(name)
        profile = make_scene(
            model,
            folder,
            batch_size=batch_size,
            threads=threads,
            settings={
                # One more, so that the last leg ends before the stage's last, full probe.
                "train.steps": window + outside + 1,
                "window.steps": window,
                "probe.every": _EVERY,
                "probe.every_in_window": _EVERY_IN_WINDOW,
                "checkpoint.every": _NEVER,
            },
        )
        bare = profile.model_copy(
            update={
                "probe": profile.probe.model_copy(
                    update={"every": _NEVER, "every_in_window": _NEVER}
                )
            }
        )
        _say(f"{window + outside} steps with probes and as many without, by turns")
        probed_run, bare_run = (
            _make_run(folder / "probed", profile),
            _make_run(folder / "bare", bare),
        )
        legs, bare_legs = alternate(_Legs(probed_run).play, _Legs(bare_run).play)
        # The first leg is the preparation, the full probe and the first step.
        legs, bare_legs = legs[1:], bare_legs[1:]
        count = window // _EVERY_IN_WINDOW
        size = _EVERY // _EVERY_IN_WINDOW
        in_window = median_ratio(legs[:count], bare_legs[:count]) - 1
        beyond, bare_beyond = (group_legs(side[count:], size) for side in (legs, bare_legs))
        prepared = prepare_run(
            profile.model_copy(update={"model": ModelSettings(source=str(probed_run.model))}),
            threads,
        )
        second_a_token = sum(bare_legs) / (
            (window + outside)
            * prepared.tasks[_STAGE].mean_length
            * profile.stage_train(_STAGE).batch_size
        )
        drift = _time_drift(prepared, probed_run)
        size_of_batch = profile.stage_train(_STAGE).batch_size
        against = _against_generate(prepared, size_of_batch)
        events = _probe_sizes(probed_run)
    report = BenchReport(
        "overhead",
        (
            Figure("in_window", "cost of probes in the danger window", in_window, "at most 0.12"),
            Figure(
                "outside",
                "cost of probes outside of it",
                median_ratio(beyond, bare_beyond) - 1,
                "at most 0.04",
            ),
            Figure(
                "times_faster_than_generate",
                f"one pass against generate, answers of {_LONG_ANSWER} tokens",
                against["long"],
                "at least 5",
            ),
            Figure(
                "times_faster_than_generate_short",
                "the same, the tasks' own answers",
                against["short"],
            ),
            Figure(
                "agreement",
                "held-out examples on which both agree about exact match",
                against["agreement"],
                "1.0",
            ),
        ),
        {
            "model": model,
            "parameters": prepared.layout.elements,
            "threads": torch.get_num_threads(),
            "device": str(prepared.compute.device),
            "batch size": size_of_batch,
            "steps": window + outside,
            "pairs in the window": count,
            "pairs outside": len(beyond),
        },
        {
            "seconds_with_probes": sum(legs),
            "seconds_without": sum(bare_legs),
            "in_window_in_sum": sum(legs[:count]) / sum(bare_legs[:count]) - 1,
            "outside_in_sum": sum(beyond) / sum(bare_beyond) - 1,
            "examples_a_probe": events,
            "seconds_a_trained_token": second_a_token,
            "drift_seconds": drift,
            "drift_in_trained_tokens": drift / second_a_token,
            **against["measured"],
        },
    )
    return report.as_plain()


def _split_steps(steps: int) -> tuple[int, int]:
    """Return steps in the window and outside of it: halves, in whole probe intervals."""
    outside = steps // 2 // _EVERY * _EVERY
    if not outside:
        raise UsageError(
            f"--steps {steps}: too few to hold a probe outside the danger window",
            f"at least {2 * _EVERY}",
        )
    return (steps - outside) // _EVERY_IN_WINDOW * _EVERY_IN_WINDOW, outside


def _make_run(path: Path, profile: Profile) -> RunDirectory:
    return RunDirectory.create(
        path, profile_text=dump_profile(profile), profile_name=profile.name, argv=["sf", "bench"]
    )


class _Legs:
    """One worker, whose run ends a leg after step 1 and then after every few steps."""

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
        # What comes after a step (its probe, drift, rules) is told after its `step` event, so the
        # probe after step 5 falls into the leg from step 2 to step 6.
        if event["type"] == "step" and event["step"] % _EVERY_IN_WINDOW == 1:
            self._pass_on()


def _probe_sizes(run: RunDirectory) -> dict[str, int]:
    """Return how many examples of each task a probe took."""
    from sf_tui.run.events import read_events

    for event in read_events(run.events):
        if event["type"] == "probe" and not event["full"]:
            return {task: measures["n"] for task, measures in event["accuracy"].items()}
    return {}


def _time_drift(prepared: Prepared, run: RunDirectory) -> float:
    """Return how long measuring the drift takes, in seconds."""
    start = next((run.checkpoints / _STAGE).glob("step-000000"))
    meter = DriftMeter(prepared.layout, Freezer(prepared.layout), start)
    meter.measure()
    seconds = []
    for _ in range(_DRIFT_REPETITIONS):
        begun = time.perf_counter()
        meter.measure()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def _against_generate(prepared: Prepared, batch_size: int) -> dict[str, Any]:
    """Compare teacher-forced probes with greedy `generate` at equal batch."""
    loaded, compute = prepared.loaded, prepared.compute
    prober = batch_prober(loaded, compute, batch_size)
    decoder = GreedyDecoder(loaded, compute, batch_size)
    rows = [row for task in prepared.tasks.values() for row in task.held_out]
    questions = [Question.of(row) for row in rows]
    _say(f"greedy generate on {len(questions)} held-out examples")
    by_generate = decoder.exact(questions)
    by_probe = prober.probe(rows).exact
    few = questions[:: max(len(questions) // (_GENERATE_BATCHES * batch_size), 1)]
    few = few[: _GENERATE_BATCHES * batch_size]
    _say(f"speed against generate on {len(few)} of them, batches of {batch_size}")
    short = time_both(prober, decoder, few, tokens=None, repetitions=_GENERATE_REPETITIONS)
    long = time_both(
        prober,
        decoder,
        with_answers_of(few, _LONG_ANSWER, seed=0),
        tokens=_LONG_ANSWER,
        repetitions=_GENERATE_REPETITIONS,
    )
    return {
        "agreement": float((by_generate == by_probe).mean()),
        "short": median_ratio(short[1], short[0]),
        "long": median_ratio(long[1], long[0]),
        "measured": {
            "held_out": len(questions),
            "exact_by_generate": float(by_generate.mean()),
            "exact_by_probe": float(by_probe.mean()),
            "answer_tokens": statistics.median(len(q.answer) for q in questions),
            "probe_seconds_short": statistics.median(short[0]),
            "generate_seconds_short": statistics.median(short[1]),
            "probe_seconds_long": statistics.median(long[0]),
            "generate_seconds_long": statistics.median(long[1]),
        },
    }


def _say(what: str) -> None:
    print(f"sf bench overhead: {what}", file=sys.stderr, flush=True)
