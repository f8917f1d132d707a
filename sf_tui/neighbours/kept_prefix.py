"""What many prompts begin with, given to the model once: its keys and values are kept.

Knows caches of attention that grows token by token, and no other; a model with any other kind is
told to be without.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from sf_tui.neighbours.anatomy import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHORTEST = 8
"""Tokens from which on keeping them is worth a pass of its own."""


class KeptPrefix:
    """A prefix's keys and values.

    Attributes:
        length: of the prefix, in tokens.
    """

    def __init__(self, cache: DynamicCache, name: str, length: int) -> None:
        self.length = length
        self._cache = cache
        self._name = name

    def for_rows(self, count: int) -> dict[str, DynamicCache]:
        """Return them for so many rows as an argument of the model, which uses it up."""
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(count)
        return {self._name: cache}


def keep_prefix(model: PreTrainedModel, prefix: Tokens, device: torch.device) -> KeptPrefix | None:
    """Give a prefix to a model and keep what comes of it.

    Args:
        model: a causal language model that is only asked.
        prefix: token ids that rows begin with.
        device: where the model is.

    Returns:
        None for a model that keeps something else than all keys and values: a sliding window, a
        state.
    """
    asked: Any = model
    out = asked(input_ids=torch.tensor([prefix], device=device), use_cache=True)
    # transformers 5.24 gave the second name up for the first.
    name = next((name for name in ("cache", "past_key_values") if name in out), "")
    cache = out[name] if name else None
    # Exactly these: what is derived from them forgets, compresses or offloads.
    if type(cache) is not DynamicCache or not cache.layers:
        return None
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    return KeptPrefix(cache, name, len(prefix))
