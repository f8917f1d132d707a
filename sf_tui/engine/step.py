"""One optimizer step, its optimizer and its learning rate; all training uses this module.

A step takes a list of losses. Each runs its own backward pass, in list order, so that only one
graph is in memory at a time. Then the summed gradient is clipped, checked and applied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F

from sf_tui.engine.batches import BatchOrder, FixedSource, collate, count_targets
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.exchange import sum_gradients
from sf_tui.engine.forward import AnswerForward
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.parts import whole
from sf_tui.engine.ranks import ALONE, Ranks
from sf_tui.profile import TrainSettings
from sf_tui.tasks.encoding import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def seed_draws(seed: int) -> None:
    """Seed the random draws of a step (dropout) on every device in use.

    `torch.manual_seed` also notes a stack trace for each kind of device that was never used: 0.8 ms
    a call, of the 30 ms of a small model's step.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


class Loss(Protocol):
    """One term of a step's objective.

    With several ranks, a loss whose attribute `is_split` is true computes this rank's part of the
    term. Any other is computed on rank 0 alone, or on all ranks if their passes go in lockstep.
    """

    def accumulate(self, step: int) -> tuple[float, int]:
        """Add the loss's gradient to the parameters' gradients.

        Args:
            step: optimizer step, counted from 1; all random draws are a pure function of it.

        Returns:
            Its unweighted value, and the number of tokens used.
        """
        ...


class ExamplesLoss:
    """Cross-entropy on the answers of a batch of examples, this rank's part of it."""

    is_split = True

    def __init__(
        self,
        model: PreTrainedModel,
        compute: ComputeSetting,
        rows: Callable[[int], Sequence[Encoded]],
        *,
        rows_a_pass: int,
        pad_id: int,
        weight: float = 1.0,
        ranks: Ranks = ALONE,
    ) -> None:
        """Configure the loss.

        Args:
            model: the model to train.
            compute: device and precision.
            rows: returns the examples of a step, counted from 1, of all ranks together.
            rows_a_pass: rows per forward pass; affects only memory.
            pad_id: token id for padding.
            weight: factor on the loss.
            ranks: the processes that share the examples of a step.
        """
        self._forward = AnswerForward(model)
        self._compute = compute
        self._rows = rows
        self._rows_a_pass = rows_a_pass
        self._pad_id = pad_id
        self._weight = weight
        self._ranks = ranks

    @classmethod
    def on_rows(
        cls,
        model: PreTrainedModel,
        compute: ComputeSetting,
        rows: Sequence[Encoded],
        *,
        batch: int,
        rows_a_pass: int,
        seed: int,
        name: str,
        pad_id: int,
        weight: float = 1.0,
    ) -> ExamplesLoss:
        """Return the loss on a few encoded rows, in an order derived from `seed` and `name`.

        Args:
            model: the model to train.
            compute: device and precision.
            rows: the examples; a batch larger than their number repeats them.
            batch: rows per step.
            rows_a_pass: rows per forward pass.
            seed: determines the order, together with `name`.
            name: name of the loss.
            pad_id: token id for padding.
            weight: factor on the loss.
        """
        source = FixedSource(rows)
        order = BatchOrder(source, batch, seed, name, length_grouped=False)

        def rows_of(step: int) -> list[Encoded]:
            return [source.encoded(*entry) for entry in order.entries(step)]

        return cls(model, compute, rows_of, rows_a_pass=rows_a_pass, pad_id=pad_id, weight=weight)

    def accumulate(self, step: int) -> tuple[float, int]:
        """Add the gradient of the mean loss over all answer tokens of the step's batch.

        Of several ranks, each adds the part of its own examples: the parts' sum is the mean.
        """
        rows = self._rows(step)
        own = self._ranks.share(len(rows))
        passes = [
            (collate([rows[at] for at in places], self._pad_id), weight)
            for places, weight in self._ranks.passes(len(rows), self._rows_a_pass)
        ]
        parts = [part for part, weight in passes if weight]
        answer_tokens = sum(part.answer_tokens for part in parts)
        answer_tokens += count_targets([*rows[: own.start], *rows[own.stop :]])
        total = 0.0
        for part, weight in passes:
            with self._compute.autocast():
                logits, targets = self._forward(part.to(self._compute.device))
            # Divide by the tokens of the whole batch, so that accumulation affects only memory.
            loss = F.cross_entropy(logits, targets, reduction="sum") / answer_tokens
            del logits
            self._compute.backward(self._weight * self._ranks.weigh(loss, weight))
            total += loss.item() if weight else 0.0
        return total, sum(part.tokens for part in parts)


@dataclass(frozen=True)
class StepResult:
    """The result of one optimizer step."""

    losses: tuple[float, ...]
    """Value of each loss, in the order given."""
    grad_norm: float
    """Gradient norm before clipping."""
    tokens: int
    """Number of tokens without padding, over all losses."""

    @property
    def is_finite(self) -> bool:
        """Whether all losses and the gradient norm are finite, so that the update was applied."""
        return all(map(math.isfinite, (*self.losses, self.grad_norm)))


def optimizer_step(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[torch.nn.Parameter],
    losses: Sequence[Loss],
    step: int,
    *,
    learning_rate: float,
    max_grad_norm: float,
    before_clip: Callable[[int], None] | None = None,
    ranks: Ranks = ALONE,
) -> StepResult:
    """Run one optimizer step on the sum of several losses.

    If a loss or the gradient norm is not finite, the update is skipped.

    Args:
        optimizer: over all parameters; those without a gradient (frozen) are skipped.
        parameters: the parameters whose gradients are clipped together.
        losses: the losses to sum.
        step: the step's number, counted from 1.
        learning_rate: for this update.
        max_grad_norm: 0 disables clipping.
        before_clip: called with the step once the gradient is summed; may modify it.
        ranks: the processes that take this step together; each then has the same result.
    """
    values, tokens = [], 0
    for loss in losses:
        split = getattr(loss, "is_split", False)
        value, seen = loss.accumulate(step) if split or ranks.runs_whole else (0.0, 0)
        counts = split or ranks.is_main
        values.append(value if counts else 0.0)
        tokens += seen if counts else 0
    if ranks.world > 1:
        values, tokens = sum_gradients(ranks, parameters, values, tokens)
    if before_clip is not None:
        before_clip(step)
    bound = max_grad_norm if max_grad_norm > 0 else math.inf
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    norm = float(whole(torch.nn.utils.clip_grad_norm_(trained, bound)))
    result = StepResult(tuple(values), norm, tokens)
    if result.is_finite:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return result


def build_optimizer(layout: ModelLayout, settings: TrainSettings) -> torch.optim.AdamW:
    """Return fused AdamW over every trainable parameter, including frozen ones.

    A layer that is frozen from the start must still be in the optimizer, or unfreezing it would
    have no effect. Weight decay applies to matrices only, not to norms and biases.

    Source: Loshchilov and Hutter 2019 (arXiv 1711.05101).
    """
    parameters = layout.trainable_parameters
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        fused=True,
    )


def learning_rate_at(step: int, total_steps: int, settings: TrainSettings) -> float:
    """Return the learning rate of one optimizer step; it is positive at every step.

    The decay matches transformers' linear and cosine schedules: after w warmup steps, the progress
    of update k is (k - 1 - w) / (total - w). The floor would be reached one step after the last, so
    a stage of a single step trains at the full rate.

    Args:
        step: number of the update, counted from 1.
        total_steps: number of updates in the stage.
        settings: rate, warmup, schedule and the fraction of the rate at the end.
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * step / settings.warmup_steps
    floor = settings.min_lr_ratio
    progress = (step - 1 - settings.warmup_steps) / max(total_steps - settings.warmup_steps, 1)
    progress = min(max(progress, 0.0), 1.0)
    if settings.lr_schedule == "linear":
        share = 1 - (1 - floor) * progress
    elif settings.lr_schedule == "cosine":
        share = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    else:
        share = 1.0
    return settings.learning_rate * share
