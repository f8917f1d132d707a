"""Task performance as task alignment and underlying knowledge, from three accuracies.

Takes points, not intervals. Source: Zheng et al. 2025, "Spurious Forgetting in Continual Learning
of Language Models", section 2: performance = alignment + knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decomposition:
    """What is still known of a task, and how much of that the model gives when asked."""

    knowledge: float
    """Accuracy after the recovery: a lower bound of what is known."""
    alignment: float | None
    """now / knowledge, at most 1; None where nothing is known."""
    alignment_loss: float
    """recovered - now, at least 0."""
    knowledge_loss: float | None
    """start - recovered, at least 0; None without a known start."""


def decompose(now: float, recovered: float, start: float | None = None) -> Decomposition:
    """Split an accuracy into alignment and knowledge.

    A recovery that ends below `now`, or above `start`, does so by chance or because the start was
    not at its best; the loss on that side is then 0, not negative.

    Args:
        now: accuracy in [0, 1].
        recovered: accuracy after the recovery.
        start: accuracy at the stage's start.
    """
    return Decomposition(
        knowledge=recovered,
        alignment=min(now / recovered, 1.0) if recovered > 0 else None,
        alignment_loss=max(recovered - now, 0.0),
        knowledge_loss=None if start is None else max(start - recovered, 0.0),
    )
