"""Refuses models whose tokens see what comes after, or whose places differ in generation.

Both would be probed and tuned without an error, and neither answers as it was probed: one reads
the answer off the row, the other is asked at other positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sf_tui.engine.kept_prefix import can_go_on_anywhere
from sf_tui.engine.positions import padding_rows
from sf_tui.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_SUPPORTED = "sf tunes decoder-only language models (GPT-NeoX, Llama, GPT-2, Qwen, Mistral, …)"

# What remains of a zero where a kernel takes another way round: far below any weight's share.
_NOTHING = 1e-6


# What the classes of these families do stands in no config.
_NO_CONTINUATION = {
    "blt": "reads a text as patches of bytes, in an encoder and a decoder of its own",
    "cpmant": "counts positions from the end of the row, so that every further token moves all",
    "gemma4_assistant": "drafts tokens from the states of another model",
    "gemma4_unified_assistant": "drafts tokens from the states of another model",
    "reformer": "is trained on rows of whole chunks alone",
    "xlnet": "predicts a token at its own place, from those around it",
}


def refuse_kind(source: str, config: PreTrainedConfig) -> None:
    """Refuse a model whose config tells that it doesn't continue a row from left to right.

    Raises:
        ModelError: it is an encoder, every token of which sees the whole row, or of a family with
            another habit; the message says which.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    kind = config.model_type
    if kind in _NO_CONTINUATION:
        raise ModelError(
            f"[model] {source}: a {kind} model {_NO_CONTINUATION[kind]}",
            _SUPPORTED,
        )
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if masked and not getattr(config, "is_decoder", False):
        raise ModelError(
            f"[model] {source}: a {kind} encoder, whose tokens see what comes after", _SUPPORTED
        )


def refuse_other_positions(source: str, model: PreTrainedModel) -> None:
    """Refuse a model that counts positions in one way by itself and in another in `generate`.

    RoBERTa and its kin count from behind the row of their padding; `generate` tells every model
    that takes `position_ids` to count from 0.

    Raises:
        ModelError: what is tuned wouldn't be what generates.
    """
    first = padding_rows(model)
    if first and can_go_on_anywhere(model):
        raise ModelError(
            f"[model] {source}: {type(model).__name__} counts positions from {first} where it is "
            "tuned and from 0 where it generates (transformers' `generate` says so), so that it "
            "would not answer as it was tuned",
            _SUPPORTED,
        )


def refuse_looking_ahead(source: str, model: PreTrainedModel) -> None:
    """Refuse a model whose first token's logits depend on the tokens behind it.

    The gradient of those logits ends at the first token's embedding in a model that continues a
    text, whatever its weights are. No parameter, gradient, mode or random state is changed. A model
    that can't run on a few tokens alone is not judged here.

    Args:
        source: the model as the profile names it, for messages.
        model: on its device.

    Raises:
        ModelError: they do.
    """
    shares = _shares_of_first_logits(model)
    if shares is not None and bool((shares[1:] > _NOTHING * shares[0]).any()):
        raise ModelError(
            f"[model] {source}: a token of {type(model).__name__} sees what comes after it, so "
            "that it would read the answer off the row",
            _SUPPORTED,
        )


def _shares_of_first_logits(model: PreTrainedModel) -> torch.Tensor | None:
    """Return how much each token's embedding moves the first token's logits; (tokens,)."""
    embedded: list[torch.Tensor] = []

    def cut(_: nn.Module, __: Any, output: Any) -> Any:
        if not isinstance(output, torch.Tensor) or embedded:
            return output
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    asked: Any = model
    training = [module for module in model.modules() if module.training]
    devices = [] if model.device.type == "cpu" else [model.device]
    handle = asked.get_input_embeddings().register_forward_hook(cut)
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        model.eval()
        try:
            ids = torch.tensor([[0, 1, 2, 3]], device=model.device)
            logits = asked(input_ids=ids, use_cache=False).logits
            (moved,) = torch.autograd.grad(logits[0, 0].float().square().sum(), embedded)
        except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            return None
        finally:
            handle.remove()
            for module in training:
                module.training = True
    if moved.dim() != 3 or moved.shape[:2] != ids.shape:
        return None
    return moved[0].float().abs().amax(-1)
