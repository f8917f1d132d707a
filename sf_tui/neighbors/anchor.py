"""KL divergence from the start model on neighbor prompts, as a measurement and as a loss.

Computes KL(start model ‖ model) at every position of the start model's own greedy answer. Each of
the start model's k likeliest tokens is one outcome, and all other tokens together are one more. The
divergence over these outcomes is a lower bound of the full one; it is zero, with zero gradient,
exactly where both models agree on them. The prompts of a step are a pure function of (seed, stage,
step), like the step's own batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sf_tui.engine.batches import BatchOrder, collate, passes_within
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.forward import AnswerForward
from sf_tui.engine.ranks import ALONE, Ranks
from sf_tui.neighbors.cache import TeacherCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def divergences(
    logits: torch.Tensor, top_ids: torch.Tensor, top_logprobs: torch.Tensor
) -> torch.Tensor:
    """Return KL(start ‖ model) at each answer position, in nats.

    Args:
        logits: (tokens, vocabulary) float32, the model's.
        top_ids: (tokens, k) the start model's likeliest tokens.
        top_logprobs: (tokens, k) their log-probabilities under the start model.

    Returns:
        (tokens,) divergences, nonnegative up to rounding.
    """
    total = logits.logsumexp(-1, keepdim=True)
    ours = logits.gather(-1, top_ids) - total
    found = (top_logprobs.exp() * (top_logprobs - ours)).sum(-1)
    if top_ids.shape[-1] == logits.shape[-1]:
        return found
    # All other tokens form one outcome, with the remaining probability.
    left = (1 - top_logprobs.double().exp().sum(-1)).clamp(min=1e-12).float()
    others = logits.scatter(-1, top_ids, -torch.inf).logsumexp(-1) - total.squeeze(-1)
    return found + left * (left.log() - others)


class DivergenceMeter:
    """Measures KL to the start model on the rows of a cache."""

    def __init__(
        self,
        model: PreTrainedModel,
        compute: ComputeSetting,
        *,
        pad_id: int,
        pass_tokens: int = 2048,
    ) -> None:
        """Prepare forward passes of a model.

        Args:
            model: the model; each call measures its current weights.
            compute: device and precision.
            pad_id: token id for padding.
            pass_tokens: tokens in one forward pass of `measure`, padding included.
        """
        self._pass_tokens = pass_tokens
        self._forward = AnswerForward(model)
        self._model = model
        self._compute = compute
        self._pad_id = pad_id

    def sums(self, cache: TeacherCache, places: Sequence[int]) -> tuple[torch.Tensor, int, int]:
        """Return the divergence summed over the answer tokens of some rows, with its graph.

        Returns:
            The sum (a scalar tensor, in nats), the number of answer tokens, and of all tokens.
        """
        device = self._compute.device
        batch = collate([cache.rows[at] for at in places], self._pad_id)
        top_ids, top_logprobs = cache.logprobs(places)
        with self._compute.autocast():
            logits, _ = self._forward(batch.to(device))
        parts = divergences(logits, top_ids.to(device), top_logprobs.to(device))
        return parts.sum(), batch.answer_tokens, batch.tokens

    @torch.no_grad()
    def measure(self, cache: TeacherCache, places: Sequence[int]) -> tuple[float, float]:
        """Return the mean divergence over some rows, and the share of unchanged answers.

        Returns:
            Mean KL in nats per answer token; share of the rows in which every answer token is
            still the likeliest, so that greedy decoding gives the start model's answer.
        """
        was_training = self._model.training
        self._model.eval()
        total, tokens, kept = 0.0, 0, 0
        try:
            lengths = [len(cache.rows[at].input_ids) for at in places]
            for within in passes_within(lengths, self._pass_tokens):
                part = [places[at] for at in within]
                batch = collate([cache.rows[place] for place in part], self._pad_id)
                top_ids, top_logprobs = cache.logprobs(part)
                device = self._compute.device
                with self._compute.autocast():
                    logits, targets = self._forward(batch.to(device))
                parts = divergences(logits, top_ids.to(device), top_logprobs.to(device))
                total += float(parts.sum())
                tokens += batch.answer_tokens
                right = (logits.argmax(-1) == targets).cpu()
                counts = [cache.rows[place].answer_tokens for place in part]
                kept += sum(bool(row.all()) for row in right.split(counts))
        finally:
            self._model.train(was_training)
        mean, share = self._compute.in_step.of_main(
            [total / max(tokens, 1), kept / max(len(places), 1)]
        )
        return mean, share


class Anchor:
    """λ · KL(start model ‖ model) on neighbor prompts, added to the gradient of each step.

    Old-data access: none. Source: the prompts and figures of this project's own experiment; the
    loss is knowledge distillation (Hinton et al. 2015, arXiv 1503.02531) toward the model's own
    past (Li and Hoiem 2016, arXiv 1606.09282), on prompts that are neither old nor new data.

    Attributes:
        strength: λ.
        rows: neighbor prompts per step.
    """

    is_split = True

    def __init__(
        self,
        model: PreTrainedModel,
        compute: ComputeSetting,
        cache: TeacherCache,
        *,
        strength: float,
        rows: int,
        rows_a_pass: int,
        seed: int,
        stage: str,
        pad_id: int,
        length_grouped: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        self.strength = strength
        self.rows = rows
        self._cache = cache
        self._compute = compute
        self._rows_a_pass = rows_a_pass
        self._ranks = ranks
        self._meter = DivergenceMeter(model, compute, pad_id=pad_id)
        # Answers of one kind have similar lengths. Grouped by length, most steps would have no
        # short answers, and the model would forget their content.
        self._order = BatchOrder(
            cache, rows, seed, f"{stage}/anchor", length_grouped=length_grouped
        )

    def accumulate(self, step: int) -> tuple[float, int]:
        """Add the gradient of λ · KL on one step's prompts to the parameters' gradients.

        Args:
            step: optimizer step of the stage, from 1.

        Returns:
            The mean KL in nats per answer token, without λ, and the number of tokens read; of
            several ranks, each returns the part of its own prompts.
        """
        places = [index for index, _ in self._order.entries(step)]
        answer_tokens = max(sum(self._cache.rows[at].answer_tokens for at in places), 1)
        total, tokens = 0.0, 0
        for part, weight in self._ranks.passes(len(places), self._rows_a_pass):
            chosen = [places[at] for at in part]
            divergence, _, seen = self._meter.sums(self._cache, chosen)
            loss = divergence / answer_tokens
            # The loss has no graph if every parameter that it depends on is frozen.
            if loss.requires_grad:
                own = self._ranks.weigh(loss, weight)
                self._compute.backward(self.strength * own)
            if not weight:
                continue
            total += loss.item()
            tokens += seen
        return total, tokens
