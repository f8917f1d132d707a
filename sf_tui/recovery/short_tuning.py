"""Short tuning of a model: tens of steps on a mixture of losses, keeping the best step.

Writes neither events nor checkpoints; the caller decides whether to keep the weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.step import (
    Loss,
    build_optimizer,
    learning_rate_at,
    optimizer_step,
    seed_draws,
)
from sf_tui.engine.weights import Snapshot
from sf_tui.profile import TrainSettings
from sf_tui.recovery.progress import OnStep, TuningStep

# AdamW's first updates depend on the moments of few gradients; a short warmup keeps them small.
_WARMUP_SHARE = 0.05
_FINAL_SHARE = 0.05
_MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class Tuned:
    """The result of a short tuning."""

    best_step: int
    """0 if the weights before the first step were best."""
    best_score: float
    steps: int
    """Steps done, including those after the best one."""
    tokens: int
    """Trained tokens, without padding."""
    seconds: float
    scores: tuple[tuple[int, float], ...]
    """(step, score) at each scored step."""
    learning_rate: float
    """Peak of the schedule."""
    diverged: bool = False
    """Whether tuning ended early because the loss was not finite."""


def tune_briefly(
    model: torch.nn.Module,
    layout: ModelLayout,
    losses: Sequence[Loss],
    *,
    steps: int,
    learning_rate: float,
    schedule: str = "cosine",
    score: Callable[[], float] | None = None,
    score_every: int = 1,
    score_start: bool = True,
    start_score: float | None = None,
    patience: int | None = None,
    enough: float | None = None,
    tolerance: Callable[[float], float] = lambda _: 0.0,
    on_step: OnStep | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Tuned:
    """Tune a model in place and leave the weights of the best-scored step in it.

    Uses a new AdamW without weight decay, and clips the gradient norm to 1. The rate warms up over
    a twentieth of the steps and then decays as a cosine, or stays constant.

    Args:
        model: the model; only its trainable parameters are updated.
        layout: its layers.
        losses: the losses to sum in each step.
        steps: largest number of steps.
        learning_rate: peak learning rate.
        schedule: `cosine` or `constant`.
        score: scores the current weights; higher is better. None keeps the last step.
        score_every: steps between two scores.
        score_start: whether the weights before the first step can be the best.
        start_score: their score, if it is known; None: `score` is called for it.
        patience: stop after this many scores without a new best; None never stops early.
        enough: stop at this score; None for no such limit.
        tolerance: returns how far below a best score another one still counts as equal. Of equal
            steps the later is kept: its rate is lower, and the weights have settled.
        on_step: called after every step, with the newest score; an exception ends the tuning.
        clock: monotonic seconds.
    """
    begun = clock()
    settings = TrainSettings(
        learning_rate=learning_rate,
        steps=steps,
        lr_schedule="cosine" if schedule == "cosine" else "constant",
        warmup_steps=max(round(_WARMUP_SHARE * steps), 1),
        min_lr_ratio=_FINAL_SHARE,
    )
    optimizer = build_optimizer(layout, settings)
    parameters = [p for layer in layout.layers for p in layer.parameters.values()]
    tokens = done = best_step = since_best = 0
    best_score = peak = -math.inf
    scores: list[tuple[int, float]] = []
    best: Snapshot | None = None
    diverged = False
    if score is not None and score_start:
        best_score = peak = score() if start_score is None else start_score
        scores.append((0, best_score))
        best = Snapshot(layout)
    model.train()
    for step in range(1, steps + 1):
        # Dropout must not depend on earlier draws, because a resumed run repeats a repair.
        seed_draws(derive_seed("short tuning", step))
        result = optimizer_step(
            optimizer,
            parameters,
            losses,
            step,
            learning_rate=learning_rate_at(step, steps, settings),
            max_grad_norm=_MAX_GRAD_NORM,
        )
        tokens += result.tokens
        if not result.is_finite:
            diverged = True
            break
        done = step
        if on_step is not None:
            on_step(TuningStep(step, steps, scores[-1][1] if scores else None))
        if score is None or (step % score_every and step != steps):
            continue
        found = score()
        scores.append((step, found))
        rises = found > peak
        since_best = 0 if rises else since_best + 1
        if rises or (best_step and found >= peak - tolerance(peak)):
            best_score, best_step = found, step
            peak = max(peak, found)
            best = Snapshot(layout)
            if enough is not None and found >= enough:
                break
        if patience is not None and since_best >= patience:
            break
    if best is not None:
        best.restore()
    elif score is None:
        best_step = done
    return Tuned(
        best_step,
        best_score,
        done,
        tokens,
        clock() - begun,
        tuple(scores),
        learning_rate,
        diverged,
    )
