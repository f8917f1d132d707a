"""How far a model's answers to neighbor prompts have moved from the start model's.

KL(start model ‖ model) at every position of the start model's own greedy answer. The start model's
k likeliest tokens are kept one by one and all others as one more outcome, so the divergence is
that of a coarser alphabet: a lower bound of the full one, and zero with zero gradient exactly where
both models agree on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sf_tui.engine.batches import collate, passes_within
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.forward import AnswerForward
from sf_tui.neighbors.bank import NeighborBank

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def divergences(
    logits: torch.Tensor, top_ids: torch.Tensor, top_chances: torch.Tensor
) -> torch.Tensor:
    """Return KL(start ‖ model) at each answer position, in nats.

    Args:
        logits: (tokens, vocabulary) float32, the model's.
        top_ids: (tokens, k) the start model's likeliest tokens.
        top_chances: (tokens, k) their log-probabilities under the start model.

    Returns:
        (tokens,) divergences, not negative but for rounding.
    """
    total = logits.logsumexp(-1, keepdim=True)
    ours = logits.gather(-1, top_ids) - total
    found = (top_chances.exp() * (top_chances - ours)).sum(-1)
    if top_ids.shape[-1] == logits.shape[-1]:
        return found
    # All other tokens as one outcome; its chance under the start model is what the likeliest leave.
    left = (1 - top_chances.double().exp().sum(-1)).clamp(min=1e-12).float()
    others = logits.scatter(-1, top_ids, -torch.inf).logsumexp(-1) - total.squeeze(-1)
    return found + left * (left.log() - others)


class DivergenceMeter:
    """Measures KL to the start model on the rows of a bank."""

    def __init__(
        self,
        model: PreTrainedModel,
        compute: ComputeSetting,
        *,
        pad_id: int,
        pass_tokens: int = 2048,
    ) -> None:
        """Prepare it.

        Args:
            model: the model that is measured, as it then stands.
            compute: device and precision.
            pad_id: token id for padding.
            pass_tokens: tokens with padding of one forward pass of `measure`.
        """
        self._pass_tokens = pass_tokens
        self._forward = AnswerForward(model)
        self._model = model
        self._compute = compute
        self._pad_id = pad_id

    def sums(self, bank: NeighborBank, places: Sequence[int]) -> tuple[torch.Tensor, int, int]:
        """Return the divergence summed over some rows' answer tokens, with its graph.

        Returns:
            The sum in nats, the number of answer tokens, and of all tokens.
        """
        device = self._compute.device
        batch = collate([bank.rows[at] for at in places], self._pad_id)
        top_ids, top_chances = bank.chances(places)
        with self._compute.autocast():
            logits, _ = self._forward(batch.to(device))
        parts = divergences(logits, top_ids.to(device), top_chances.to(device))
        return parts.sum(), batch.answer_tokens, batch.tokens

    @torch.no_grad()
    def measure(self, bank: NeighborBank, places: Sequence[int]) -> tuple[float, float]:
        """Return the mean divergence over some rows, and the share of answers kept.

        Returns:
            Mean KL in nats an answer token; share of the rows whose every answer token is still
            the model's likeliest, so that greedy decoding gives the start model's answer.
        """
        was_training = self._model.training
        self._model.eval()
        total, tokens, kept = 0.0, 0, 0
        try:
            lengths = [len(bank.rows[at].input_ids) for at in places]
            for within in passes_within(lengths, self._pass_tokens):
                part = [places[at] for at in within]
                batch = collate([bank.rows[place] for place in part], self._pad_id)
                top_ids, top_chances = bank.chances(part)
                device = self._compute.device
                with self._compute.autocast():
                    logits, targets = self._forward(batch.to(device))
                parts = divergences(logits, top_ids.to(device), top_chances.to(device))
                total += float(parts.sum())
                tokens += batch.answer_tokens
                right = (logits.argmax(-1) == targets).cpu()
                counts = [bank.rows[place].answer_tokens for place in part]
                kept += sum(bool(row.all()) for row in right.split(counts))
        finally:
            self._model.train(was_training)
        return total / max(tokens, 1), kept / max(len(places), 1)
