"""One forward pass that makes logits only where an answer token is predicted.

A prompt's logits are never looked at, and with a large vocabulary they are most of a step's memory.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from sf_tui.engine.batches import IGNORED, Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class AnswerForward:
    """Runs a causal language model and returns the logits that predict answer tokens."""

    def __init__(self, model: PreTrainedModel) -> None:
        import transformers.modeling_utils

        self._model = model
        # A boolean mask of positions is understood from the version on that has this function.
        self._takes_mask = _takes_positions(model) and hasattr(
            transformers.modeling_utils, "slice_logits_to_keep"
        )

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and targets of every answer token of a batch.

        Returns:
            (tokens, vocabulary) float32 logits and (tokens,) target ids, row by row in the order
            of the batch.
        """
        targets = F.pad(batch.labels[:, 1:], (0, 1), value=IGNORED)
        kept = targets != IGNORED
        if self._takes_mask:
            output = self._model(input_ids=batch.input_ids, logits_to_keep=kept, use_cache=False)
            logits = output.logits
        else:
            output = self._model(input_ids=batch.input_ids, use_cache=False)
            logits = output.logits[kept]
        return logits.float(), targets[kept]


class LastForward:
    """Runs a causal language model and returns the logits behind each row's last token."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model: Any = model
        self._kept = {"logits_to_keep": 1} if _takes_positions(model) else {}

    def __call__(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return (rows, vocabulary) float32 logits for (rows, length) ids without padding."""
        output = self._model(input_ids=input_ids, use_cache=False, **self._kept)
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits


def _takes_positions(model: PreTrainedModel) -> bool:
    """Tell whether a model can be asked for the logits of some positions only."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters
