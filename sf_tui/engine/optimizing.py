"""The optimizer and its learning rate: AdamW over all parameters; the rate follows the step."""

from __future__ import annotations

import math

import torch

from sf_tui.engine.layout import ModelLayout
from sf_tui.profile import TrainSettings


def build_optimizer(layout: ModelLayout, settings: TrainSettings) -> torch.optim.AdamW:
    """Return fused AdamW over every parameter that trains, frozen ones included.

    A layer that is frozen from the start must still be known to the optimizer, or an unfreeze
    would train nothing. Weight decay takes matrices only: norms and biases have no scale to lose.

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
    """Return the learning rate of one optimizer step; it is above 0 at every step, the last too.

    The rate falls as transformers' linear and cosine schedules do: update k after w warm-up steps
    has come (k - 1 - w) / (total - w) of the way. The floor would be reached at the step after the
    last one, so a stage of a single step trains at the full rate.

    Args:
        step: 1 for the first update.
        total_steps: number of updates in the stage.
        settings: rate, warm-up, schedule and the share of the rate that is left at the end.
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
