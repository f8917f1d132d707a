"""Forward passes that compute only the required logits, and key/value caches of shared prefixes.

A prompt's logits are never used, and with a large vocabulary they take most of a step's memory. In
inference, a prefix shared by all rows (a chat template's system turn) is computed once. Only
attention caches that grow token by token are supported; other models run without a cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from transformers.cache_utils import DynamicCache, DynamicLayer

from sf_tui.engine.batches import IGNORED, Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


SHORTEST = 8
"""Shortest prefix worth caching, in tokens."""


class AnswerForward:
    """Runs a causal language model and returns the logits that predict answer tokens."""

    def __init__(self, model: PreTrainedModel) -> None:
        import transformers.modeling_utils

        self._model = model
        # transformers versions with this function accept a boolean mask of positions.
        self._takes_mask = takes_logits_to_keep(model) and hasattr(
            transformers.modeling_utils, "slice_logits_to_keep"
        )
        # None until the first prefix worth caching.
        self._caches_prefix: bool | None = None

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits and targets of every answer token in a batch.

        Returns:
            (tokens, vocabulary) float32 logits and (tokens,) target ids, row by row in batch order.
        """
        targets = F.pad(batch.labels[:, 1:], (0, 1), value=IGNORED)
        kept = targets != IGNORED
        model: Any = self._model
        inference = not (torch.is_grad_enabled() or model.training)
        prefix = self._prefix_of(batch.input_ids, kept) if inference else None
        given = prefix.length if prefix else 0
        ids, wanted = batch.input_ids[:, given:], kept[:, given:]
        past = prefix.for_rows(len(ids)) if prefix else {}
        arguments = {"input_ids": ids, "use_cache": prefix is not None, **past}
        if self._takes_mask:
            logits = model(**arguments, logits_to_keep=wanted).logits
        else:
            logits = model(**arguments).logits[wanted]
        return logits.float(), targets[kept]

    def _prefix_of(self, input_ids: torch.Tensor, kept: torch.Tensor) -> PrefixCache | None:
        """Return a cache of the prefix that all rows share; None if it is too short."""
        if len(input_ids) < 2 or self._caches_prefix is False:
            return None
        shared = (input_ids == input_ids[0]).all(0) & ~kept.any(0)
        length = int(shared.long().cumprod(0).sum())
        # Each row must keep at least one token after the prefix, even if all rows are identical.
        length = min(length, input_ids.shape[1] - 1)
        if length < SHORTEST:
            return None
        if self._caches_prefix is None and not continues_prefix(self._model):
            self._caches_prefix = False
            return None
        prefix = cache_prefix(self._model, input_ids[0, :length])
        self._caches_prefix = prefix is not None
        return prefix


class LastForward:
    """Runs a causal language model and returns the logits after each row's last token."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model: Any = model
        self._kept = {"logits_to_keep": 1} if takes_logits_to_keep(model) else {}

    def __call__(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return (rows, vocabulary) float32 logits for (rows, length) ids without padding."""
        output = self._model(input_ids=input_ids, use_cache=False, **self._kept)
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits


class PrefixCache:
    """The keys and values of a prefix that several rows share.

    Attributes:
        length: length of the prefix in tokens.
    """

    def __init__(self, cache: DynamicCache, name: str, length: int) -> None:
        self.length = length
        self._states = _states_of(cache)
        self._name = name

    def for_rows(self, count: int) -> dict[str, DynamicCache]:
        """Return the cache expanded to `count` rows, as model arguments; the model modifies it."""
        cache = DynamicCache()
        for at, (keys, values) in enumerate(self._states):
            cache.update(_repeated(keys, count), _repeated(values, count), at)
        return {self._name: cache}


class PromptCache:
    """The keys and values of several prompts; rows can continue any of them from any position.

    Attributes:
        width: length of the longest prompt in tokens.
    """

    def __init__(self, cache: DynamicCache, name: str, width: int) -> None:
        self.width = width
        self._states = _states_of(cache)
        self._name = name

    def for_rows(
        self, prompts: Sequence[int], lengths: Sequence[int], new: int
    ) -> dict[str, DynamicCache | torch.Tensor]:
        """Return the model arguments for rows that continue cached prompts.

        Args:
            prompts: for each row, the index of its prompt.
            lengths: for each row, the number of tokens it uses of that prompt.
            new: number of tokens that each row adds.
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


def continues_prefix(model: PreTrainedModel) -> bool:
    """Return whether a model accepts several tokens after a cached prefix.

    ProphetNet accepts only one at a time, and CPM-Ant expects the prefix again.
    """
    live: Any = model
    ids = torch.tensor([0, 1], device=model.device)
    try:
        kept = cache_prefix(model, ids)
        if kept is None:
            return False
        logits = live(input_ids=ids[None], use_cache=True, **kept.for_rows(1)).logits
    except (AssertionError, LookupError, TypeError, ValueError):
        return False
    return bool(logits.shape[1] == len(ids))


def cache_prefix(model: PreTrainedModel, prefix: torch.Tensor) -> PrefixCache | None:
    """Run a prefix through a model and return its keys and values.

    Args:
        model: a causal language model in inference mode.
        prefix: (length,) token ids at the start of every row, on the model's device.

    Returns:
        The cache, or None if the model does not cache all keys and values (sliding window,
        recurrent state).
    """
    live: Any = model
    _forget_image_positions(model)
    # The logits of a prefix are not needed.
    least = {"logits_to_keep": 1} if takes_logits_to_keep(model) else {}
    out = live(input_ids=prefix[None], use_cache=True, **least)
    name, cache = _growing_cache(out)
    return PrefixCache(cache, name, len(prefix)) if cache is not None else None


def cache_prompts(out: Any, width: int) -> PromptCache | None:
    """Return the cache of a forward pass over prompts padded on the right.

    Args:
        out: output of a pass with `use_cache`.
        width: tokens per row, including padding and any cached prefix.

    Returns:
        The cache, or None if the model does not cache all keys and values.
    """
    name, cache = _growing_cache(out)
    return PromptCache(cache, name, width) if cache is not None else None


def takes_position_ids(model: PreTrainedModel) -> bool:
    """Return whether a model accepts position ids; otherwise it derives positions itself."""
    return "position_ids" in inspect.signature(model.forward).parameters


def takes_logits_to_keep(model: PreTrainedModel) -> bool:
    """Return whether a model can compute logits for selected positions only."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def _forget_image_positions(model: PreTrainedModel) -> None:
    """Clear the position offset that `generate` leaves in a vision model (M-RoPE).

    The offset has a row per generated prompt. The next pass with a cache would add it to other
    rows, and fail if their number differs (Qwen-VL, GLM-V).
    """
    for module in (model, model.base_model):
        if getattr(module, "rope_deltas", None) is not None:
            cast("Any", module).rope_deltas = None


def _repeated(states: torch.Tensor, count: int) -> torch.Tensor:
    return states.expand(count, *states.shape[1:])


def _states_of(cache: DynamicCache) -> list[tuple[torch.Tensor, torch.Tensor]]:
    layers: Any = cache.layers  # of one kind and initialized; checked by `_growing_cache`
    return [(layer.keys, layer.values) for layer in layers]


def _growing_cache(out: Any) -> tuple[str, DynamicCache | None]:
    # transformers 5.24 renamed the second to the first.
    name = next((name for name in ("cache", "past_key_values") if name in out), "")
    cache = out[name] if name else None
    # Exactly these classes: subclasses drop, compress or offload states.
    if type(cache) is not DynamicCache or not cache.layers:
        return name, None
    layers: Any = cache.layers
    if any(type(layer) is not DynamicLayer or layer.keys is None for layer in layers):
        return name, None
    return name, cache
