"""The tuning loop of one stage, a step at a time.

Knows batches, loss, clipping and the optimizer; when to probe, freeze, save or stop is the
caller's business, between two steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F

from sf_tui.engine.batches import BatchOrder, EncodedSource, collate, derive_seed
from sf_tui.engine.forward import AnswerForward
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.optimizing import build_optimizer, learning_rate_at
from sf_tui.errors import SfError
from sf_tui.profile import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sf_tui.engine.compute import ComputeSetting


class NonFiniteLossError(SfError):
    """Loss or gradient became NaN or infinite; the update that it would have made was not made."""

    def __init__(
        self, step: int, loss: float, grad_norm: float, added_loss: float | None = None
    ) -> None:
        added = "" if added_loss is None else f", added loss {added_loss}"
        super().__init__(
            f"step {step}: loss {loss}{added}, gradient norm {grad_norm}",
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
    """Tokens without padding, those of an added loss among them."""
    added_loss: float | None = None
    """What the added loss said of this step; None where there was none."""


class AddedLoss(Protocol):
    """A loss on other rows than the stage's own, added to a step."""

    def accumulate(self, step: int) -> tuple[float, int]:
        """Add its gradient to the parameters'; return its value and the tokens that it took."""
        ...


class StageTuner:
    """Tunes a model on one task's train split.

    Attributes:
        step: optimizer steps done in this stage.
        total_steps: optimizer steps that the stage takes.
        learning_rate_factor: what the scheduled rate is multiplied by (less than 1 after a NaN
            that the profile says to go on from).
        added: what is added to the loss of every step from now on; None adds nothing.
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
        self.added: AddedLoss | None = None
        self.optimizer = build_optimizer(layout, settings)
        self._model = model
        self._parameters = [p for layer in layout.layers for p in layer.parameters.values()]
        self._forward = AnswerForward(model)
        self._source = source
        self._settings = settings
        self._compute = compute
        self._stage = stage
        self._seed = seed
        self._pad_id = pad_id
        self._clock = clock
        self._order = BatchOrder(
            source, settings.batch_size, seed, stage, length_grouped=settings.length_grouped
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
        rows = [self._source.encoded(*entry) for entry in self._order.entries(step)]
        size = self._settings.micro_batch_size or len(rows)
        micro_batches = [
            collate(rows[at : at + size], self._pad_id) for at in range(0, len(rows), size)
        ]
        answer_tokens = sum(batch.answer_tokens for batch in micro_batches)

        self._model.train()
        loss = 0.0
        for batch in micro_batches:
            with self._compute.autocast():
                logits, targets = self._forward(batch.to(self._compute.device))
            # Over the tokens of the whole batch, so that accumulation changes nothing but memory.
            part = F.cross_entropy(logits, targets, reduction="sum") / answer_tokens
            del logits
            self._compute.backward(part)
            loss += part.item()
        added_loss, added_tokens = None, 0
        if self.added is not None:
            added_loss, added_tokens = self.added.accumulate(step)
        grad_norm = self._clip()
        if not all(map(math.isfinite, (loss, added_loss or 0.0, grad_norm))):
            self.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteLossError(step, loss, grad_norm, added_loss)

        rate = learning_rate_at(step, self.total_steps, self._settings) * self.learning_rate_factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step = step
        tokens = sum(batch.tokens for batch in micro_batches) + added_tokens
        seconds = max(self._clock() - started, 1e-9)
        return StepOutcome(loss, grad_norm, rate, tokens / seconds, added_loss)

    def _clip(self) -> float:
        bound = self._settings.clip if self._settings.clip > 0 else math.inf
        trained = [p for p in self._parameters if p.grad is not None]
        return float(torch.nn.utils.clip_grad_norm_(trained, bound))
