"""Probes: measure a model on each task's held-out split in one forward pass.

Under teacher forcing, every answer token is predicted from the true prefix. If each is the argmax,
greedy decoding returns exactly the answer (by induction over its tokens), so exact match costs one
forward pass and no `generate`. Source: `is_greedy` in lm-evaluation-harness.

Which examples a probe takes, and how often, is planned in `probe_plan.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from sf_tui.engine.batches import collate, passes_within
from sf_tui.engine.forward import AnswerForward
from sf_tui.engine.ranks import ALONE, Ranks
from sf_tui.tasks.encoding import Encoded
from sf_tui.vocabulary.metrics import KL, METRICS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sf_tui.engine.compute import ComputeSetting


# A trained token costs a forward pass and a backward pass (about two forward passes); a probed
# token costs one forward pass.
PROBED_TOKENS_A_TRAINED_ONE = 3


@dataclass(frozen=True)
class ProbeResult:
    """A model's results on held-out examples; all arrays are (examples,)."""

    exact: np.ndarray
    """bool: whether greedy decoding returns the whole answer and its end token."""
    first_token: np.ndarray
    """bool: whether the answer's first token is correct."""
    correct_tokens: np.ndarray
    """int: number of answer tokens that are the argmax."""
    answer_tokens: np.ndarray
    """int: number of answer tokens."""
    nll: np.ndarray
    """float: negative log-likelihood of the answer, summed over its tokens, in nats."""
    divergence: np.ndarray | None = None
    """float: KL(start model ‖ model) summed over the answer's tokens, in nats; NaN for an example
    that is no answer of the start model. None if there are no such answers."""

    def measures(self, subset: Sequence[int] | None = None) -> dict[str, float]:
        """Return the measures of all examples, or of a subset by index.

        Returns:
            The value of every metric, in its unit, and `n` (number of examples); `kl` only if all
            examples are answers of the start model.
        """
        at = slice(None) if subset is None else np.asarray(subset, dtype=np.int64)
        chosen = ProbeResult(
            self.exact[at],
            self.first_token[at],
            self.correct_tokens[at],
            self.answer_tokens[at],
            self.nll[at],
        )
        found = {name: float(measure(chosen)) for name, measure in _MEASURES.items()}
        sums = np.full(1, np.nan) if self.divergence is None else self.divergence[at]
        if len(sums) and np.isfinite(sums).all():
            found[KL.name] = float(sums.sum() / int(chosen.answer_tokens.sum()))
        return found | {"n": len(chosen.exact)}

    def right(self, metric: str) -> np.ndarray | None:
        """Return which examples a metric counts as right; None if it does not count examples.

        Returns:
            (examples,) bool, whose mean is the metric's value.
        """
        count = _RIGHT.get(metric)
        return None if count is None else count(self).astype(bool)


Measure = Callable[[ProbeResult], float]
"""Computes one metric over all examples of a result."""

_MEASURES: dict[str, Measure] = {
    "exact_match": lambda found: found.exact.mean(),
    "first_token_accuracy": lambda found: found.first_token.mean(),
    "token_accuracy": lambda found: found.correct_tokens.sum() / int(found.answer_tokens.sum()),
    "nll": lambda found: found.nll.sum() / int(found.answer_tokens.sum()),
}


_RIGHT: dict[str, Callable[[ProbeResult], np.ndarray]] = {
    "exact_match": lambda found: found.exact,
    "first_token_accuracy": lambda found: found.first_token,
}
"""Metrics that are the share of right examples, with which these are."""


def register_measure(
    name: str, measure: Measure, right: Callable[[ProbeResult], np.ndarray] | None = None
) -> None:
    """Register the computation of a metric for every probe.

    Args:
        name: the metric.
        measure: computes its value.
        right: for a metric that is the share of right examples: which these are, as (examples,)
            bool. Drops then have the narrower interval of a paired comparison.

    Raises:
        ValueError: the metric is unknown, or already has a computation.
    """
    if name not in METRICS or name in _MEASURES or METRICS[name].needs_start_answers:
        raise ValueError(f"'{name}' is no metric without a computation")
    _MEASURES[name] = measure
    if right is not None:
        _RIGHT[name] = right


def teacher_forced_matches(
    logits: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Count the answer tokens of each example that greedy decoding would return.

    Args:
        logits: (tokens, vocabulary), any float dtype.
        targets: (tokens,) answer token ids.
        rows: (tokens,) index of each token's example, ascending.
        count: number of examples.

    Returns:
        Number of answer tokens, number of correct tokens, whether the first is correct, and summed
        negative log-likelihood in nats; each (count,).
    """
    correct = logits.argmax(-1) == targets
    zeros = torch.zeros(count, dtype=torch.int64, device=logits.device)
    total = zeros.index_add(0, rows, torch.ones_like(rows))
    right = zeros.index_add(0, rows, correct.long())
    starts = total.cumsum(0) - total
    first = correct[starts.clamp(max=max(len(targets) - 1, 0))] & (total > 0)
    losses = F.cross_entropy(logits, targets, reduction="none")
    nll = torch.zeros(count, device=logits.device).index_add(0, rows, losses)
    return total, right, first, nll


class Reference(Protocol):
    """The start model's distributions at the positions of its own answers."""

    def knows(self, row: Encoded) -> bool:
        """Return whether a row is one of those answers."""
        ...

    def divergences(self, rows: Sequence[Encoded], logits: torch.Tensor) -> torch.Tensor:
        """Return (rows,) KL(start model ‖ model) summed over each row's answer tokens, in nats.

        Args:
            rows: the rows of a pass.
            logits: (answer tokens of all rows, vocabulary) float32, the model's.
        """
        ...


class Prober:
    """Scores encoded examples under one model."""

    def __init__(
        self,
        model: PreTrainedModel,
        compute: ComputeSetting,
        *,
        pad_id: int,
        batch_tokens: int,
        batch_size: int | None = None,
        ranks: Ranks = ALONE,
        between: Callable[[], None] | None = None,
        reference: Reference | None = None,
    ) -> None:
        """Configure a prober.

        Args:
            model: the model; switched to eval mode during a probe.
            compute: device and precision.
            pad_id: token id for padding.
            batch_tokens: largest number of tokens per forward pass, padding included; a training
                step's number keeps a probe's memory below the step's.
            batch_size: largest number of examples per forward pass; None for no limit.
            ranks: the processes that share the passes of a probe; each gets the whole result.
            between: called before each pass; an exception ends the probe, which changes nothing.
            reference: what the model's answers are compared with, beside the right ones.
        """
        self._reference = reference
        self._model = model
        self._forward = AnswerForward(model)
        self._compute = compute
        self._pad_id = pad_id
        self._batch_tokens = batch_tokens
        self._batch_size = batch_size
        self._ranks = ranks
        self._between = between

    @torch.no_grad()
    def probe(self, examples: Sequence[Encoded]) -> ProbeResult:
        """Score every example; the result arrays are in the order of `examples`."""
        was_training = self._model.training
        self._model.eval()
        try:
            return self._probe(examples)
        finally:
            self._model.train(was_training)

    def _probe(self, examples: Sequence[Encoded]) -> ProbeResult:
        count = len(examples)
        parts = {
            "total": np.zeros(count, np.int64),
            "right": np.zeros(count, np.int64),
            "first": np.zeros(count, bool),
            "nll": np.zeros(count, np.float64),
        }
        reference = self._reference
        if reference is not None:
            parts["divergence"] = np.zeros(count, np.float64)
        lengths = [len(example.input_ids) for example in examples]
        passes = passes_within(lengths, self._batch_tokens, self._batch_size)
        for turn, counts in self._ranks.turns(len(passes)):
            if self._between is not None:
                self._between()
            places = passes[turn]
            batch = collate([examples[at] for at in places], self._pad_id)
            rows = (batch.labels[:, 1:] != -100).nonzero()[:, 0].to(self._compute.device)
            with self._compute.autocast():
                logits, targets = self._forward(batch.to(self._compute.device))
            found = [*teacher_forced_matches(logits, targets, rows, len(places))]
            if reference is not None:
                found.append(reference.divergences([examples[at] for at in places], logits))
            if not counts:
                continue
            for name, values in zip(parts, found, strict=True):
                parts[name][places] = values.cpu().numpy()
        if self._ranks.world > 1:
            # Each example was scored on one rank; on the others it is zero.
            scored = torch.from_numpy(
                np.stack([part.astype(np.float64) for part in parts.values()])
            )
            self._ranks.add_up(scored)
            for (name, part), values in zip(parts.items(), scored.numpy(), strict=True):
                parts[name] = values.astype(part.dtype)
        if reference is not None:
            known = [reference.knows(example) for example in examples]
            parts["divergence"] = np.where(known, parts["divergence"], np.nan)
        return ProbeResult(
            exact=(parts["right"] == parts["total"]) & (parts["total"] > 0),
            first_token=parts["first"],
            correct_tokens=parts["right"],
            answer_tokens=parts["total"],
            nll=parts["nll"],
            divergence=parts.get("divergence"),
        )


def spread_evenly(groups: Sequence[str], seed: int) -> list[int]:
    """Order examples so that every leading subset has as many of each group as of any other.

    Returns:
        Indices of all examples.
    """
    random = np.random.default_rng(seed)
    by_group: dict[str, list[int]] = {}
    for at in random.permutation(len(groups)):
        by_group.setdefault(groups[at], []).append(int(at))
    ranked = [
        (place, turn, at)
        for turn, group in enumerate(sorted(by_group))
        for place, at in enumerate(by_group[group])
    ]
    return [at for _, _, at in sorted(ranked)]
