"""Which tokens end a model's answer: it may know several.

A tokenizer's end token ends a text; many chat models end a turn with another one, which their
template writes behind an answer and their generation config names. An answer that ran past it
would be one that nobody ever sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sf_tui.errors import ModelError
from sf_tui.tasks.chat import find_closing

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def answer_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the ids of the tokens that end an answer, the tokenizer's end token first.

    Args:
        model: its generation config is asked.
        tokenizer: has an end token, and perhaps a chat template.
    """
    found = [int(tokenizer.eos_token_id)]
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if named is not None:
        found += [named] if isinstance(named, int) else list(named)
    found += _turn_ends(tokenizer)
    return tuple(dict.fromkeys(found))


def _turn_ends(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token that the chat template ends an answer with, if there is one."""
    if not getattr(tokenizer, "chat_template", None):
        return []
    try:
        closing = find_closing(tokenizer)
    except ModelError:
        # It can't write a question and its answer: the rows are joined without it, then.
        return []
    return list(tokenizer.encode(closing.end, add_special_tokens=False)[-1:])
