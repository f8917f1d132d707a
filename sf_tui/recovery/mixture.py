"""Examples as one part of what a short tuning learns from; an `Anchor` is another.

Each part adds its own gradient to a step, as any `AddedLoss` does; which rows a step takes is a
pure function of (seed, part, step).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F

from sf_tui.engine.batches import BatchOrder, collate
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.forward import AnswerForward
from sf_tui.engine.sources import FixedSource
from sf_tui.tasks.encoding import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ExamplesPart:
    """Cross-entropy on examples, a batch of them a step.

    Args:
        model: the model that is tuned.
        compute: device and precision.
        rows: the examples; fewer than a batch are taken again within it.
        batch: rows a step.
        rows_a_pass: rows of one forward pass.
        weight: what the loss is multiplied by.
        seed: decides the order, together with `name`.
        name: of the part.
        pad_id: token id for padding.
    """

    def __init__(
        self,
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
    ) -> None:
        self._forward = AnswerForward(model)
        self._compute = compute
        self._rows = rows
        self._rows_a_pass = rows_a_pass
        self._weight = weight
        self._pad_id = pad_id
        self._order = BatchOrder(FixedSource(rows), batch, seed, name, length_grouped=False)

    def accumulate(self, step: int) -> tuple[float, int]:
        """Add the gradient of the mean loss over the step's answer tokens."""
        chosen = [self._rows[index] for index, _ in self._order.entries(step)]
        parts = [
            collate(chosen[at : at + self._rows_a_pass], self._pad_id)
            for at in range(0, len(chosen), self._rows_a_pass)
        ]
        answer_tokens = sum(part.answer_tokens for part in parts)
        total = 0.0
        for part in parts:
            with self._compute.autocast():
                logits, targets = self._forward(part.to(self._compute.device))
            loss = F.cross_entropy(logits, targets, reduction="sum") / answer_tokens
            self._compute.backward(self._weight * loss)
            total += loss.item()
        return total, sum(part.tokens for part in parts)
