"""The interface between training and monitoring, and sf's own training loop.

A `TrainingLoop` runs the optimizer steps of one stage. Probes, drift, the danger window, rules,
commands, checkpoints and events use only this protocol, so the loop can be `StageTuner` or an
external one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from sf_tui.engine.batches import BatchOrder, EncodedSource, derive_seed
from sf_tui.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    unwritten,
)
from sf_tui.engine.compiled import CompiledBlocks
from sf_tui.engine.gathering import gather_checkpoint
from sf_tui.engine.layout import ModelLayout, block_module
from sf_tui.engine.ranks import ALONE, Ranks
from sf_tui.engine.step import (
    ExamplesLoss,
    Loss,
    build_optimizer,
    learning_rate_at,
    optimizer_step,
    seed_draws,
)
from sf_tui.errors import SfError
from sf_tui.profile import TrainSettings
from sf_tui.tasks.encoding import Encoded
from sf_tui.vocabulary.ops import OPS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sf_tui.engine.compute import ComputeSetting


class NonFiniteLossError(SfError):
    """Loss or gradient became NaN or infinite; the update was skipped."""

    def __init__(
        self, step: int, loss: float, grad_norm: float, added: Mapping[str, float] | None = None
    ) -> None:
        others = "".join(f", {name} loss {value:.3g}" for name, value in (added or {}).items())
        super().__init__(
            f"step {step}: loss {loss:.3g}{others}, gradient norm {grad_norm:.3g}",
            "lower the learning rate: the update was not made",
        )
        self.step = step
        self.loss = loss
        self.grad_norm = grad_norm


@dataclass(frozen=True)
class StepOutcome:
    """The result of one optimizer step."""

    loss: float
    """Mean over the answer tokens of the whole batch, in nats."""
    grad_norm: float
    """Gradient norm before clipping."""
    learning_rate: float
    tokens_per_second: float
    """Without padding; includes the tokens of added losses."""
    added: Mapping[str, float] = field(default_factory=dict)
    """Value of each added loss, by name."""


class StepHooks:
    """Hooks into a loop's steps; this base class adds nothing."""

    def losses(self) -> Mapping[str, Loss]:
        """Return the losses to add to the step's own, by their names in `step` events."""
        return {}

    def rows(self, step: int) -> Sequence[Encoded] | None:  # noqa: ARG002  for subclasses
        """Return the rows of a step's batch; None keeps the loop's own.

        Args:
            step: counted from 1; the rows must be a pure function of the step and the run's seed.
        """
        return None

    def before_update(self, step: int) -> None:
        """Modify the summed gradients, after the backward passes and before clipping."""


class TrainingLoop(Protocol):
    """Trains one stage, step by step."""

    @property
    def model(self) -> torch.nn.Module:
        """The model, trained in place."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer over its parameters."""
        ...

    @property
    def step(self) -> int:
        """Optimizer steps done in this stage."""
        ...

    @property
    def total_steps(self) -> int:
        """Optimizer steps in the whole stage."""
        ...

    def refusal(self, what: str) -> str | None:
        """Return why the loop doesn't support an op or a strategy; None if it does.

        Args:
            what: name of the op or strategy.
        """
        ...

    def attach(self, hooks: StepHooks) -> None:
        """Run hooks in every step from now on; called once, before the first step.

        A loop that refuses strategies may ignore them.
        """
        ...

    def advance(self) -> StepOutcome:
        """Run one optimizer step.

        Raises:
            NonFiniteLossError: loss or gradient norm is not finite; the weights are unchanged.
        """
        ...

    def save(
        self,
        path: Path,
        state: dict[str, Any],
        tensors: Mapping[str, Mapping[str, torch.Tensor]],
    ) -> int:
        """Write a checkpoint of this step and return its size in bytes.

        Args:
            path: its folder.
            state: JSON for the checkpoint's state.
            tensors: tensors of the strategies, by strategy and name.

        Raises:
            RunError: it can't be written.
        """
        ...

    def rewind(self, checkpoint: Checkpoint) -> None:
        """Restore weights, optimizer and step from a checkpoint.

        Raises:
            RunError: the checkpoint is damaged or belongs to another model.
        """
        ...

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the scheduled learning rate by a factor, starting with the next step."""
        ...


def refusals_of(loop: TrainingLoop) -> dict[str, str]:
    """Return every op that a loop can't do, with the reason."""
    reasons = {name: loop.refusal(name) for name in OPS}
    return {name: reason for name, reason in reasons.items() if reason is not None}


class StageTuner:
    """Tunes a model on one task's train split.

    Attributes:
        model: the model, tuned in place.
        optimizer: AdamW over all its parameters.
        step: optimizer steps done in this stage.
        total_steps: optimizer steps in the whole stage.
        learning_rate_factor: factor on the scheduled learning rate.
        added: losses in addition to those of the hooks, by their names in an outcome.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        layout: ModelLayout,
        source: EncodedSource,
        settings: TrainSettings,
        compute: ComputeSetting,
        *,
        stage: str,
        seed: int,
        pad_id: int,
        ranks: Ranks = ALONE,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.model = model
        self.step = 0
        self.total_steps = settings.total_steps(len(source))
        self.learning_rate_factor = 1.0
        self.added: dict[str, Loss] = {}
        self.optimizer = build_optimizer(layout, settings)
        self._layout = layout
        self._parameters = [p for layer in layout.layers for p in layer.parameters.values()]
        self._settings = settings
        self._stage = stage
        self._seed = seed
        self._ranks = ranks
        self._clock = clock
        self._source = source
        self._hooks = StepHooks()
        self._gathered: tuple[Path | None, Exception | None] = (None, None)
        self._order = BatchOrder(
            source, settings.batch_size, seed, stage, length_grouped=settings.length_grouped
        )
        self._compiled = (
            CompiledBlocks([block_module(model, block) for block in layout.blocks])
            if settings.torch_compile
            else None
        )
        self._own = ExamplesLoss(
            model, compute, self._rows, rows_a_pass=settings.micro_batch, pad_id=pad_id, ranks=ranks
        )

    def refusal(self, what: str) -> str | None:  # noqa: ARG002  the protocol's
        """Return None: this loop supports every op and every strategy."""
        return None

    def attach(self, hooks: StepHooks) -> None:
        """Run hooks in every step from now on."""
        self._hooks = hooks

    def advance(self) -> StepOutcome:
        """Run one optimizer step.

        Raises:
            NonFiniteLossError: loss or gradient norm is not finite; the weights are unchanged.
        """
        started = self._clock()
        step = self.step + 1
        # Makes dropout and other random draws a pure function of the step, like the batch.
        # Each rank draws for other examples.
        rank = [self._ranks.rank] if self._ranks.rank else []
        seed_draws(derive_seed(self._seed, self._stage, "step", step, *rank))
        self.model.train()
        rate = learning_rate_at(step, self.total_steps, self._settings) * self.learning_rate_factor
        losses = {**self._hooks.losses(), **self.added}
        with self._compiled.in_use() if self._compiled else nullcontext():
            result = optimizer_step(
                self.optimizer,
                self._parameters,
                [self._own, *losses.values()],
                step,
                learning_rate=rate,
                max_grad_norm=self._settings.max_grad_norm,
                before_clip=self._hooks.before_update,
                ranks=self._ranks,
            )
        loss, *others = result.losses
        added = dict(zip(losses, others, strict=True))
        if not result.is_finite:
            raise NonFiniteLossError(step, loss, result.grad_norm, added)
        self.step = step
        self._ranks.note_step(step)
        seconds = max(self._clock() - started, 1e-9)
        return StepOutcome(loss, result.grad_norm, rate, result.tokens / seconds, added)

    def save(
        self,
        path: Path,
        state: dict[str, Any],
        tensors: Mapping[str, Mapping[str, torch.Tensor]],
    ) -> int:
        """Write a checkpoint of this step and return its size in bytes."""
        gathered, failure = self._gathered
        self._gathered = None, None
        if failure is not None:
            raise unwritten(path, failure) from failure
        return save_checkpoint(path, self._layout, self.optimizer, state, tensors, gathered)

    def gather(self, folder: Path) -> None:
        """Gather divided weights and moments for the next `save`. Called on every rank.

        Args:
            folder: where rank 0 writes them, on the disk of the checkpoints.
        """
        failure = gather_checkpoint(self._ranks, folder, self._layout, self.optimizer)
        self._gathered = folder, failure

    def rewind(self, checkpoint: Checkpoint) -> None:
        """Restore weights, optimizer and step from a checkpoint."""
        load_checkpoint(checkpoint, self._layout, self.optimizer)
        self.step = checkpoint.step

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the scheduled learning rate by a factor, starting with the next step."""
        self.learning_rate_factor = factor

    def _rows(self, step: int) -> Sequence[Encoded]:
        rows = self._hooks.rows(step)
        if rows is None:
            rows = [self._source.encoded(*entry) for entry in self._order.entries(step)]
        return rows
