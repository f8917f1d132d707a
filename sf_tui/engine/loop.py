"""The seam between what trains and what watches, and our own side of it.

A `TrainingLoop` makes optimizer steps on one stage. Probes, drift, the danger window, rules,
commands, checkpoints and events only talk to this protocol, so the loop can be our own
(`sf_tui.engine.loop.StageTuner`) or anyone else's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from sf_tui.engine.batches import BatchOrder, EncodedSource, derive_seed
from sf_tui.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.step import (
    ExamplesLoss,
    Loss,
    build_optimizer,
    learning_rate_at,
    optimizer_step,
)
from sf_tui.errors import SfError
from sf_tui.profile import TrainSettings
from sf_tui.tasks.encoding import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sf_tui.engine.compute import ComputeSetting


class NonFiniteLossError(SfError):
    """Loss or gradient became NaN or infinite; the update was not made."""

    def __init__(
        self, step: int, loss: float, grad_norm: float, added: Mapping[str, float] | None = None
    ) -> None:
        others = "".join(f", {name} loss {value}" for name, value in (added or {}).items())
        super().__init__(
            f"step {step}: loss {loss}{others}, gradient norm {grad_norm}",
            "lower the learning rate: the update was not made",
        )
        self.step = step
        self.loss = loss
        self.grad_norm = grad_norm


@dataclass(frozen=True)
class StepOutcome:
    """What one optimizer step did."""

    loss: float
    """Mean over the answer tokens of the whole batch, in nats."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    tokens_per_second: float
    """Tokens without padding, those of added losses included."""
    added: Mapping[str, float] = field(default_factory=dict)
    """The value of each added loss by its name."""


class StepHooks:
    """What joins a loop's own step; this base adds nothing."""

    def losses(self) -> Mapping[str, Loss]:
        """Return the losses added to the step's own, by the name that `step` events use."""
        return {}

    def rows(self, step: int) -> Sequence[Encoded] | None:  # noqa: ARG002  for subclasses
        """Return the rows of a step's batch; None leaves the loop's own.

        Args:
            step: from 1; the rows must be a pure function of it and of the run's seed.
        """
        return None

    def before_update(self, step: int) -> None:
        """Change the summed gradients, after the backward passes and before clipping."""


class TrainingLoop(Protocol):
    """Trains one stage, a step at a time."""

    @property
    def model(self) -> torch.nn.Module:
        """The model that is trained, in place."""
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
        """Optimizer steps that the stage takes."""
        ...

    def refusal(self, what: str) -> str | None:
        """Return why the loop can't do an op or train with a strategy; None where it can.

        Args:
            what: the name of the op or the strategy.
        """
        ...

    def attach(self, hooks: StepHooks) -> None:
        """Join hooks to every step from now on; called once, before the first step.

        A loop that refuses strategies may ignore them.
        """
        ...

    def advance(self) -> StepOutcome:
        """Do one optimizer step.

        Raises:
            NonFiniteLossError: loss or gradient norm is not finite; weights are as before.
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
            tensors: what strategies store, by strategy and name.

        Raises:
            RunError: it can't be written.
        """
        ...

    def rewind(self, checkpoint: Checkpoint) -> None:
        """Put weights, optimizer and step back as a checkpoint has them.

        Raises:
            RunError: the checkpoint is damaged or belongs to another model.
        """
        ...

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the scheduled learning rate by a factor from the next step on."""
        ...


class StageTuner:
    """Tunes a model on one task's train split.

    Attributes:
        model: the model, tuned in place.
        optimizer: AdamW over all its parameters.
        step: optimizer steps done in this stage.
        total_steps: optimizer steps that the stage takes.
        learning_rate_factor: what the scheduled rate is multiplied by.
        added: losses beside those of the hooks, by the name that an outcome gives their value.
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
        self._clock = clock
        self._source = source
        self._hooks = StepHooks()
        self._order = BatchOrder(
            source, settings.batch_size, seed, stage, length_grouped=settings.length_grouped
        )
        self._own = ExamplesLoss(
            model, compute, self._rows, rows_a_pass=settings.micro_batch, pad_id=pad_id
        )

    def refusal(self, what: str) -> str | None:  # noqa: ARG002  the protocol's
        """Return None: this loop can do every op and train with every strategy."""
        return None

    def attach(self, hooks: StepHooks) -> None:
        """Join hooks to every step from now on."""
        self._hooks = hooks

    def advance(self) -> StepOutcome:
        """Do one optimizer step.

        Raises:
            NonFiniteLossError: loss or gradient norm is not finite; weights are as before.
        """
        started = self._clock()
        step = self.step + 1
        # Dropout and whatever else draws at random: a pure function of the step, as the batch is.
        torch.manual_seed(derive_seed(self._seed, self._stage, "step", step))
        self.model.train()
        rate = learning_rate_at(step, self.total_steps, self._settings) * self.learning_rate_factor
        losses = {**self._hooks.losses(), **self.added}
        result = optimizer_step(
            self.optimizer,
            self._parameters,
            [self._own, *losses.values()],
            step,
            learning_rate=rate,
            max_grad_norm=self._settings.max_grad_norm,
            before_clip=self._hooks.before_update,
        )
        loss, *others = result.losses
        added = dict(zip(losses, others, strict=True))
        if not result.is_finite:
            raise NonFiniteLossError(step, loss, result.grad_norm, added)
        self.step = step
        seconds = max(self._clock() - started, 1e-9)
        return StepOutcome(loss, result.grad_norm, rate, result.tokens / seconds, added)

    def save(
        self,
        path: Path,
        state: dict[str, Any],
        tensors: Mapping[str, Mapping[str, torch.Tensor]],
    ) -> int:
        """Write a checkpoint of this step and return its size in bytes."""
        return save_checkpoint(path, self._layout, self.optimizer, state, tensors)

    def rewind(self, checkpoint: Checkpoint) -> None:
        """Put weights, optimizer and step back as a checkpoint has them."""
        load_checkpoint(checkpoint, self._layout, self.optimizer)
        self.step = checkpoint.step

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the scheduled learning rate by a factor from the next step on."""
        self.learning_rate_factor = factor

    def _rows(self, step: int) -> Sequence[Encoded]:
        rows = self._hooks.rows(step)
        if rows is None:
            rows = [self._source.encoded(*entry) for entry in self._order.entries(step)]
        return rows
