"""The anchor: λ · KL(start model ‖ model) on fresh neighbor prompts, added to every step.

Which prompts a step takes is a pure function of (seed, stage, step), as with the step's own batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sf_tui.engine.batches import BatchOrder
from sf_tui.engine.compute import ComputeSetting
from sf_tui.neighbors.bank import NeighborBank
from sf_tui.neighbors.divergence import DivergenceMeter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Anchor:
    """Adds its loss to the gradient of a step.

    Old-data access: none. Source: the prompts and figures of this project's own experiment; the
    loss is knowledge distillation (Hinton et al. 2015, arXiv 1503.02531) towards the model's own
    past (Li and Hoiem 2016, arXiv 1606.09282), on prompts that are neither old nor new data.

    Attributes:
        strength: λ.
        rows: neighbor prompts a step.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        compute: ComputeSetting,
        bank: NeighborBank,
        *,
        strength: float,
        rows: int,
        rows_a_pass: int,
        seed: int,
        stage: str,
        pad_id: int,
        length_grouped: bool = False,
    ) -> None:
        self.strength = strength
        self.rows = rows
        self._bank = bank
        self._compute = compute
        self._rows_a_pass = rows_a_pass
        self._meter = DivergenceMeter(model, compute, pad_id=pad_id)
        # Answers of a kind are of a length: grouped, most steps are without any of the short ones,
        # and a model that learns beside them lets go of what those hold.
        self._order = BatchOrder(bank, rows, seed, f"{stage}/anchor", length_grouped=length_grouped)

    def accumulate(self, step: int) -> tuple[float, int]:
        """Add the gradient of λ · KL on the prompts of one step to the parameters'.

        Args:
            step: optimizer step of the stage, from 1.

        Returns:
            The mean KL in nats an answer token, without λ, and the tokens it took.
        """
        places = [index for index, _ in self._order.entries(step)]
        answer_tokens = max(sum(self._bank.rows[at].answer_tokens for at in places), 1)
        total, tokens = 0.0, 0
        for at in range(0, len(places), self._rows_a_pass):
            part = places[at : at + self._rows_a_pass]
            divergence, _, seen = self._meter.sums(self._bank, part)
            loss = divergence / answer_tokens
            # Without a parameter that trains on its way it has no graph, and nothing to add.
            if loss.requires_grad:
                self._compute.backward(self.strength * loss)
            total += loss.item()
            tokens += seen
        return total, tokens
