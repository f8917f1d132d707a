"""Cost of an anchor: an anchored step against a plain one, and the one-time cost of its cache.

Both sides train the same stage from the same weights, a step each in turn, without probes and
events. The anchor uses as many neighbor prompts per step as there are new rows.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from sf_tui.bench.harness import Clock, PassOn, alternate, median_ratio
from sf_tui.engine.prepare import PreparedRun, prepare_run
from sf_tui.engine.tuning import StageTuner
from sf_tui.neighbors.anchor import Anchor
from sf_tui.profile import Profile, StageSpec
from sf_tui.worker.stage_bank import StageBank, start_model

# The first step of each side makes the optimizer's moments.
_WARMUP = 1


@dataclass(frozen=True)
class AnchorCost:
    """The cost of an anchor; seconds are medians over steps on the benchmark's clock."""

    times_a_plain_step: float
    plain_seconds: float
    anchored_seconds: float
    repetitions: int
    cache_seconds: float
    """One-time: propose and answer all neighbor prompts of a stage."""
    cache_prompts: int
    cache_tokens: int
    """Tokens that the start model processed for it."""

    @property
    def cache_in_plain_steps(self) -> float:
        """The one-time cost as a number of plain steps."""
        return self.cache_seconds / self.plain_seconds


def measure_anchor(profile: Profile, stage: str, steps: int, threads: int) -> AnchorCost:
    """Measure the anchor on one stage of a profile, as long as the profile says it is.

    Args:
        profile: the profile; its own strategy counts for nothing here.
        stage: the stage's name.
        steps: how many steps of each kind are timed.
        threads: CPU threads, pinned already.

    Raises:
        DataError: the stage's task has no prompts.
    """
    spec = next(one for one in profile.stages() if one.name == stage)
    anchored, plain = prepare_run(profile, threads), prepare_run(profile, threads)
    clock = Clock.for_device(plain.compute.device.type, threads)
    tuners = [_tuner(anchored, spec), _tuner(plain, spec)]
    planned = StageBank(anchored, spec)
    before = clock.now()
    bank = planned.build(start_model(anchored, spec), None)
    cache_seconds = clock.now() - before
    tuners[0].added["anchor"] = Anchor(
        anchored.loaded.model,
        anchored.compute,
        bank,
        strength=profile.anchor.strength,
        rows=spec.train.batch_size,
        rows_a_pass=spec.train.micro_batch,
        seed=profile.seed,
        stage=stage,
        pad_id=anchored.loaded.pad_id,
    )
    sides = [_Steps(tuner, _WARMUP + steps) for tuner in tuners]
    with_anchor, without = (
        clock.seconds(legs[_WARMUP:]) for legs in alternate(sides[0].play, sides[1].play)
    )
    return AnchorCost(
        median_ratio(with_anchor, without),
        statistics.median(without),
        statistics.median(with_anchor),
        steps,
        cache_seconds,
        len(bank),
        bank.built_tokens,
    )


def _tuner(prepared: PreparedRun, spec: StageSpec) -> StageTuner:
    return StageTuner(
        prepared.loaded.model,
        prepared.layout,
        prepared.tasks[spec.task].train,
        spec.train,
        prepared.compute,
        stage=spec.name,
        seed=prepared.profile.seed,
        pad_id=prepared.loaded.pad_id,
    )


class _Steps:
    """One side: a number of steps, one per leg."""

    def __init__(self, tuner: StageTuner, steps: int) -> None:
        self._tuner = tuner
        self._steps = steps

    def play(self, pass_on: PassOn) -> None:
        """Take the steps."""
        for _ in range(self._steps):
            self._tuner.advance()
            pass_on()
