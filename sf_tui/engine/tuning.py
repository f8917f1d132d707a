"""The tuning loop of one stage, a step at a time.

Knows the schedule and what a stage draws at random; when to probe, freeze, save or stop is the
caller's business, between two steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from sf_tui.engine.batches import BatchOrder, EncodedSource, derive_seed
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.optimizing import build_optimizer, learning_rate_at
from sf_tui.engine.step import ExamplesLoss, Loss, optimizer_step
from sf_tui.errors import SfError
from sf_tui.profile import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sf_tui.engine.compute import ComputeSetting


class NonFiniteLossError(SfError):
    """Loss or gradient became NaN or infinite; the update that it would have made was not made."""

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
    """Tokens without padding, those of added losses among them."""
    added: Mapping[str, float] = field(default_factory=dict)
    """The value of each added loss by its name."""


class StageTuner:
    """Tunes a model on one task's train split.

    Attributes:
        step: optimizer steps done in this stage.
        total_steps: optimizer steps that the stage takes.
        learning_rate_factor: what the scheduled rate is multiplied by (less than 1 after a NaN
            that the profile says to go on from).
        added: losses that every step adds to its own from now on, by the name that a `step` event
            gives their value.
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
        self.step = 0
        self.total_steps = settings.total_steps(len(source))
        self.learning_rate_factor = 1.0
        self.added: dict[str, Loss] = {}
        self.optimizer = build_optimizer(layout, settings)
        self._model = model
        self._parameters = [p for layer in layout.layers for p in layer.parameters.values()]
        self._settings = settings
        self._stage = stage
        self._seed = seed
        self._clock = clock
        order = BatchOrder(
            source, settings.batch_size, seed, stage, length_grouped=settings.length_grouped
        )
        self._own = ExamplesLoss(
            model, compute, source, order, rows_a_pass=settings.micro_batch, pad_id=pad_id
        )

    def advance(self) -> StepOutcome:
        """Do one optimizer step.

        Raises:
            NonFiniteLossError: loss or gradient norm is not finite; weights are as before.
        """
        started = self._clock()
        step = self.step + 1
        # Dropout and whatever else draws at random: a pure function of the step, as the batch is.
        torch.manual_seed(derive_seed(self._seed, self._stage, "step", step))
        self._model.train()
        rate = learning_rate_at(step, self.total_steps, self._settings) * self.learning_rate_factor
        result = optimizer_step(
            self.optimizer,
            self._parameters,
            [self._own, *self.added.values()],
            step,
            learning_rate=rate,
            max_grad_norm=self._settings.max_grad_norm,
        )
        loss, *others = result.losses
        added = dict(zip(self.added, others, strict=True))
        if not result.is_finite:
            raise NonFiniteLossError(step, loss, result.grad_norm, added)
        self.step = step
        seconds = max(self._clock() - started, 1e-9)
        return StepOutcome(loss, result.grad_norm, rate, result.tokens / seconds, added)
