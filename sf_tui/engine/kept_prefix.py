"""What prompts begin with, given to the model once: its keys and values are kept.

Knows caches of attention that grows token by token, and no other; a model with any other kind is
told to be without.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

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
        self._states = _states_of(cache)
        self._name = name

    def for_rows(self, count: int) -> dict[str, DynamicCache]:
        """Return them for so many rows as an argument of the model, which uses it up."""
        cache = DynamicCache()
        for at, (keys, values) in enumerate(self._states):
            cache.update(_repeated(keys, count), _repeated(values, count), at)
        return {self._name: cache}


class KeptBeginnings:
    """The keys and values of several prompts, any of which can be gone on from at any position.

    Attributes:
        width: of the longest prompt, in tokens.
    """

    def __init__(self, cache: DynamicCache, name: str, width: int) -> None:
        self.width = width
        self._states = _states_of(cache)
        self._name = name

    def for_rows(
        self, prompts: Sequence[int], lengths: Sequence[int], new: int
    ) -> dict[str, DynamicCache | torch.Tensor]:
        """Return the arguments of the model for rows that go on where their prompts are left.

        Args:
            prompts: for each row, which prompt it begins with.
            lengths: for each row, how many of that prompt's tokens.
            new: tokens that each row adds.
        """
        device = self._states[0][0].device
        rows = torch.tensor(prompts, device=device)
        begun = torch.tensor(lengths, device=device)[:, None]
        cache = DynamicCache()
        for at, (keys, values) in enumerate(self._states):
            cache.update(keys[rows], values[rows], at)
        seen = torch.arange(self.width, device=device)[None] < begun
        added = torch.ones(len(rows), new, dtype=torch.bool, device=device)
        return {
            self._name: cache,
            "attention_mask": torch.cat([seen, added], 1).long(),
            "position_ids": begun + torch.arange(new, device=device)[None],
        }


def can_go_on(model: PreTrainedModel) -> bool:
    """Tell whether a model answers for several tokens behind a kept prefix.

    ProphetNet takes one token at a time there, and CPM-Ant the prefix once more.
    """
    asked: Any = model
    ids = torch.tensor([0, 1], device=model.device)
    try:
        kept = keep_prefix(model, ids)
        if kept is None:
            return False
        logits = asked(input_ids=ids[None], use_cache=True, **kept.for_rows(1)).logits
    except (AssertionError, LookupError, TypeError, ValueError):
        return False
    return bool(logits.shape[1] == len(ids))


def keep_prefix(model: PreTrainedModel, prefix: torch.Tensor) -> KeptPrefix | None:
    """Give a prefix to a model and keep what comes of it.

    Args:
        model: a causal language model that is only asked.
        prefix: (length,) token ids that rows begin with, where the model is.

    Returns:
        None for a model that keeps something else than all keys and values: a sliding window, a
        state.
    """
    asked: Any = model
    _forget_image_positions(model)
    # The logits behind a prefix are nobody's question.
    least = {"logits_to_keep": 1} if takes_positions(model) else {}
    out = asked(input_ids=prefix[None], use_cache=True, **least)
    name, cache = _growing_cache(out)
    return KeptPrefix(cache, name, len(prefix)) if cache is not None else None


def keep_beginnings(out: Any, width: int) -> KeptBeginnings | None:
    """Return what a forward pass over prompts, padded on the right, left behind.

    Args:
        out: of a pass with `use_cache`.
        width: tokens of a row, with padding and whatever was kept before it.

    Returns:
        None for a model that keeps something else than all keys and values.
    """
    name, cache = _growing_cache(out)
    return KeptBeginnings(cache, name, width) if cache is not None else None


def can_go_on_anywhere(model: PreTrainedModel) -> bool:
    """Tell whether a model can be told where a row goes on; else it counts what it sees."""
    return "position_ids" in inspect.signature(model.forward).parameters


def takes_positions(model: PreTrainedModel) -> bool:
    """Tell whether a model can be asked for the logits of some positions only."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def _forget_image_positions(model: PreTrainedModel) -> None:
    """Drop the shift of positions that `generate` leaves behind in a vision model (M-RoPE).

    It has a row for each prompt that was generated from; the next pass with a cache would add it to
    other rows, and fails where their number differs (Qwen-VL, GLM-V).
    """
    for module in (model, model.base_model):
        if getattr(module, "rope_deltas", None) is not None:
            cast("Any", module).rope_deltas = None


def _repeated(states: torch.Tensor, count: int) -> torch.Tensor:
    return states.expand(count, *states.shape[1:])


def _states_of(cache: DynamicCache) -> list[tuple[torch.Tensor, torch.Tensor]]:
    layers: Any = cache.layers  # all of one kind, and filled: whoever keeps them has looked
    return [(layer.keys, layer.values) for layer in layers]


def _growing_cache(out: Any) -> tuple[str, DynamicCache | None]:
    # transformers 5.24 gave the second name up for the first.
    name = next((name for name in ("cache", "past_key_values") if name in out), "")
    cache = out[name] if name else None
    # Exactly these: what is derived from them forgets, compresses or offloads.
    if type(cache) is not DynamicCache or not cache.layers:
        return name, None
    layers: Any = cache.layers
    if any(type(layer) is not DynamicLayer or layer.keys is None for layer in layers):
        return name, None
    return name, cache
