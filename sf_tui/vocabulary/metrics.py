"""The metrics of a task: unit, direction, and how a drop is computed.

Every reader (worker, console, reports) computes drops and the worst value here, so that a metric
that improves when it falls is never shown inverted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One measure of a task on its held-out split."""

    name: str
    """The key in a probe's measures, and the profile's `metric`."""
    description: str
    higher_is_better: bool
    is_share: bool
    """Whether values lie in [0, 1]; shares are shown in points and can be guarded."""
    unit: str
    """What a value counts; a phrase for legends."""
    needs_start_answers: bool = False
    """Whether it compares with the start model's distributions, which exist for its own answers to
    neighbor prompts only; such a metric stands beside a task's own."""
    counts_examples: bool = False
    """Whether a value is the share of right examples, so that runs can be compared by each one."""

    def drop(self, start: float, now: float) -> float:
        """Return how much was lost since `start`, in the metric's unit; negative for a gain."""
        return start - now if self.higher_is_better else now - start

    def worst(self, values: Iterable[float]) -> float:
        """Return the worst value; there must be at least one."""
        return min(values) if self.higher_is_better else max(values)

    @property
    def worst_word(self) -> str:
        """The word for the worst value: `lowest`, or `highest` if lower is better."""
        return "lowest" if self.higher_is_better else "highest"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "exact_match",
            "the whole answer and its end token, as greedy decoding gives them",
            higher_is_better=True,
            is_share=True,
            unit="share of examples",
            counts_examples=True,
        ),
        Metric(
            "first_token_accuracy",
            "the first token of the answer",
            higher_is_better=True,
            is_share=True,
            unit="share of examples",
            counts_examples=True,
        ),
        Metric(
            "token_accuracy",
            "answer tokens that are the most likely one",
            higher_is_better=True,
            is_share=True,
            unit="share of answer tokens",
        ),
        Metric(
            "nll",
            "negative log-likelihood of the answer",
            higher_is_better=False,
            is_share=False,
            unit="nats a token",
        ),
        Metric(
            "kl",
            "divergence from the start model on its own answers, KL(start ‖ now)",
            higher_is_better=False,
            is_share=False,
            unit="nats a token",
            needs_start_answers=True,
        ),
    )
}
"""Every metric by name."""

KL = METRICS["kl"]

DEFAULT_METRIC = METRICS["exact_match"]
"""A task's metric until the run reports another."""


def register_metric(metric: Metric) -> None:
    """Add a metric. Call it before loading a profile that uses it.

    How a probe computes it is registered with `engine.probing.register_measure`.

    Raises:
        ValueError: a metric with that name exists.
    """
    if metric.name in METRICS:
        raise ValueError(f"there is a metric '{metric.name}' already")
    METRICS[metric.name] = metric


def metric_named(name: str) -> Metric:
    """Return the metric with that name, or the default one for an unknown name."""
    return METRICS.get(name, DEFAULT_METRIC)
