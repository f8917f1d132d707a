"""One forward pass that makes logits only where an answer token is predicted.

A prompt's logits are never looked at, and with a large vocabulary they are most of a step's memory.
Where no gradient is wanted, what all rows open with (a chat template's system turn) is given once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from sf_tui.engine.batches import IGNORED, Batch
from sf_tui.engine.kept_prefix import (
    SHORTEST,
    KeptPrefix,
    can_go_on,
    keep_prefix,
    takes_positions,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class AnswerForward:
    """Runs a causal language model and returns the logits that predict answer tokens."""

    def __init__(self, model: PreTrainedModel) -> None:
        import transformers.modeling_utils

        self._model = model
        # A boolean mask of positions is understood from the version on that has this function.
        self._takes_mask = takes_positions(model) and hasattr(
            transformers.modeling_utils, "slice_logits_to_keep"
        )
        # Unknown until there is a prefix worth keeping.
        self._keeps_prefix: bool | None = None

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and targets of every answer token of a batch.

        Returns:
            (tokens, vocabulary) float32 logits and (tokens,) target ids, row by row in the order
            of the batch.
        """
        targets = F.pad(batch.labels[:, 1:], (0, 1), value=IGNORED)
        kept = targets != IGNORED
        model: Any = self._model
        only_asked = not (torch.is_grad_enabled() or model.training)
        prefix = self._keep(batch.input_ids, kept) if only_asked else None
        given = prefix.length if prefix else 0
        ids, wanted = batch.input_ids[:, given:], kept[:, given:]
        past = prefix.for_rows(len(ids)) if prefix else {}
        arguments = {"input_ids": ids, "use_cache": prefix is not None, **past}
        if self._takes_mask:
            logits = model(**arguments, logits_to_keep=wanted).logits
        else:
            logits = model(**arguments).logits[wanted]
        return logits.float(), targets[kept]

    def _keep(self, input_ids: torch.Tensor, kept: torch.Tensor) -> KeptPrefix | None:
        """Give what all rows open with to the model; None where that isn't worth a pass."""
        if len(input_ids) < 2 or self._keeps_prefix is False:
            return None
        shared = (input_ids == input_ids[0]).all(0) & ~kept.any(0)
        length = int(shared.long().cumprod(0).sum())
        # Rows that are all alike must be left something to be asked about.
        length = min(length, input_ids.shape[1] - 1)
        if length < SHORTEST:
            return None
        if self._keeps_prefix is None and not can_go_on(self._model):
            self._keeps_prefix = False
            return None
        prefix = keep_prefix(self._model, input_ids[0, :length])
        self._keeps_prefix = prefix is not None
        return prefix


class LastForward:
    """Runs a causal language model and returns the logits behind each row's last token."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model: Any = model
        self._kept = {"logits_to_keep": 1} if takes_positions(model) else {}

    def __call__(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return (rows, vocabulary) float32 logits for (rows, length) ids without padding."""
        output = self._model(input_ids=input_ids, use_cache=False, **self._kept)
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits
