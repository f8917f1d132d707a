"""Our own training loop of one stage, a step at a time.

Knows the schedule and what a stage draws at random. The caller decides when to probe, freeze, save
or stop, between two steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sf_tui.engine.batches import BatchOrder, EncodedSource, derive_seed
from sf_tui.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.loop import NonFiniteLossError, StepHooks, StepOutcome
from sf_tui.engine.step import (
    ExamplesLoss,
    Loss,
    build_optimizer,
    learning_rate_at,
    optimizer_step,
)
from sf_tui.profile import TrainSettings
from sf_tui.tasks.encoding import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sf_tui.engine.compute import ComputeSetting


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
