"""Time that a freeze saves and an anchor costs, each against a plain step of the same stage.

A step of the whole model alternates with a step that has half of the blocks and the embeddings
frozen, on the same rows. The possible saving is timed inside the whole step, at the border below
which blocks would be frozen:

    possible = backward below the border + (clipping + optimizer) * share of parameters below it

With tied weights the output projection is frozen too and its weight gradient is not needed: the
same product, timed alone, is added. Further savings (activations that need not be kept, the input
gradient of the first trainable block) are not counted, so the share can exceed 1.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sf_tui.bench.harness import Clock, PassOn, alternate, median_ratio
from sf_tui.engine.batches import FixedSource
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.loop import StageTuner
from sf_tui.engine.prepare import PreparedRun, prepare_run
from sf_tui.neighbors.anchor import Anchor
from sf_tui.profile import Profile
from sf_tui.worker.stage_bank import StageBank, start_model
from sf_tui.worker.stage_strategies import stage_tuner

if TYPE_CHECKING:
    from sf_tui.engine.prepare import PreparedRun
    from sf_tui.profile import TrainSettings
    from sf_tui.tasks.encoding import Encoded

# The first steps fill caches and the optimizer state.
_WARM_UP = 2


@dataclass(frozen=True)
class FreezeGain:
    """Seconds per step and its parts, medians over repetitions."""

    share: float
    """Time saved, relative to the possible saving."""
    whole_step: float
    frozen_step: float
    backward_below: float
    """Backward pass below the border, in the whole step."""
    update: float
    """Clipping and optimizer, in the whole step."""
    parameters_below: float
    """Share of the parameters that are frozen."""
    tied_gradient: float


def measure_freeze_gain(
    prepared: PreparedRun,
    rows: Sequence[Encoded],
    settings: TrainSettings,
    clock: Clock,
    *,
    repetitions: int,
) -> FreezeGain:
    """Time whole and frozen steps in turn.

    Args:
        prepared: model, layout and freezer; trains the model in place.
        rows: one batch, the same in every step.
        settings: how to train.
        clock: times the steps.
        repetitions: number of timed steps of each kind.
    """
    stamps = _Stamps(prepared.compute.device, clock)
    layout, freezer = prepared.layout, prepared.freezer
    half = freezer.resolve(None)
    tuner = StageTuner(
        prepared.loaded.model,
        layout,
        FixedSource(rows),
        settings,
        _StampedCompute(
            prepared.compute.accelerator, prepared.compute.weights_dtype, stamps=stamps
        ),
        stage="freeze-gain",
        seed=0,
        pad_id=prepared.loaded.pad_id,
    )
    watch = _watch_border(_block_module(prepared, half), stamps)
    tuner.optimizer.register_step_post_hook(lambda *_: stamps.set("updated"))
    tied = _tied_gradient(prepared, rows, clock) if layout.tied else 0.0
    below = _share_below(layout, half)
    shares, parts = [], []
    for repetition in range(_WARM_UP + repetitions):
        freezer.unfreeze()
        whole = _time_step(tuner, stamps)
        backward = stamps.at["backward"] - stamps.at["border"]
        update = stamps.at["updated"] - stamps.at["backward"]
        freezer.freeze(None, embeddings=True)
        frozen = _time_step(tuner, stamps)
        if repetition < _WARM_UP:
            continue
        possible = backward + update * below + tied
        shares.append((whole - frozen) / possible)
        parts.append((whole, frozen, backward, update))
    watch.remove()
    freezer.unfreeze()
    whole, frozen, backward, update = map(statistics.median, zip(*parts, strict=True))
    return FreezeGain(statistics.median(shares), whole, frozen, backward, update, below, tied)


@dataclass
class _Stamps:
    """Times of the points in the last step, in seconds."""

    device: torch.device
    clock: Clock
    at: dict[str, float] = field(default_factory=dict)

    def set(self, name: str) -> None:
        """Record the time of a point."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.at[name] = self.clock.now()


@dataclass(frozen=True, kw_only=True)
class _StampedCompute(ComputeSetting):
    """Records the end of the backward pass."""

    stamps: _Stamps

    def backward(self, loss: torch.Tensor) -> None:
        """Run the backward pass of a loss."""
        super().backward(loss)
        self.stamps.set("backward")


def _time_step(tuner: StageTuner, stamps: _Stamps) -> float:
    stamps.set("begun")
    tuner.advance()
    stamps.set("ended")
    return stamps.at["ended"] - stamps.at["begun"]


def _block_module(prepared: PreparedRun, index: int) -> nn.Module:
    """Return the module of a block: the outermost one with exactly its parameters."""
    wanted = {id(p) for p in prepared.layout.blocks[index].parameters.values()}
    model: Any = prepared.loaded.model
    found: nn.Module = next(
        module for module in model.modules() if {id(p) for p in module.parameters()} == wanted
    )
    return found


def _watch_border(block: nn.Module, stamps: _Stamps) -> Any:
    """Record the time at which the gradient of a block's input is complete."""

    def before(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:  # noqa: ARG001
        hidden = given[0] if given else named["hidden_states"]
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: stamps.set("border"))  # noqa: ARG005

    return block.register_forward_pre_hook(before, with_kwargs=True)


def _share_below(layout: ModelLayout, blocks: int) -> float:
    frozen = layout.embeddings.elements + sum(layer.elements for layer in layout.blocks[:blocks])
    return frozen / layout.elements


def _tied_gradient(prepared: PreparedRun, rows: Sequence[Encoded], clock: Clock) -> float:
    """Return the median time of the output projection's weight gradient in seconds."""
    model: Any = prepared.loaded.model
    weight = model.get_output_embeddings().weight
    tokens = sum(row.answer_tokens for row in rows)
    device = prepared.compute.device
    with prepared.compute.autocast():
        hidden = torch.randn(tokens, weight.shape[1], device=device, dtype=weight.dtype)
        gradient = torch.randn(tokens, weight.shape[0], device=device, dtype=weight.dtype)
        seconds = []
        for _ in range(5):
            stamps = _Stamps(device, clock)
            stamps.set("begun")
            gradient.t() @ hidden
            stamps.set("ended")
            seconds.append(stamps.at["ended"] - stamps.at["begun"])
    return statistics.median(seconds)


# The first step of each side allocates the optimizer's moments.
_WARMUP = 1


@dataclass(frozen=True)
class AnchorCost:
    """The cost of an anchor; seconds are medians over steps on the benchmark's clock."""

    times_a_plain_step: float
    plain_seconds: float
    anchored_seconds: float
    repetitions: int
    cache_seconds: float
    """One-time cost of proposing and answering all neighbor prompts of a stage."""
    cache_prompts: int
    cache_tokens: int
    """Tokens that the start model processed for the cache."""

    @property
    def cache_in_plain_steps(self) -> float:
        """The one-time cost as a number of plain steps."""
        return self.cache_seconds / self.plain_seconds


def measure_anchor(profile: Profile, stage: str, steps: int, threads: int) -> AnchorCost:
    """Measure the cost of the anchor on one stage of a profile, at the stage's length.

    Args:
        profile: the profile; its own strategy is ignored.
        stage: the stage's name.
        steps: number of timed steps of each kind.
        threads: CPU threads, already pinned.

    Raises:
        DataError: the stage's task has no prompts.
    """
    spec = next(one for one in profile.stages() if one.name == stage)
    anchored, plain = prepare_run(profile, threads), prepare_run(profile, threads)
    clock = Clock.for_device(plain.compute.device.type, threads)
    tuners = [stage_tuner(anchored, spec), stage_tuner(plain, spec)]
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
