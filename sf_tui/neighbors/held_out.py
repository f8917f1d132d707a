"""The held-out prompts of some tasks: no prompt that is made up for a training may be one of them.

Neighbors, crossed prompts and the prompts of taught tasks all ask here. A prompt that its own task
trains on is no held-out one: a task may be scored on its training questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from sf_tui.engine.batches import EncodedSource
from sf_tui.neighbors.anatomy import Tokens, every_prompt, prompts_of
from sf_tui.tasks.encoding import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class HeldOutPrompts:
    """Held-out prompts, compared as text without regard to case and white space.

    The same text may have other tokens in a prompt that is put together from parts.

    Attributes:
        prompts: the prompts.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompts: Iterable[Tokens]) -> None:
        """Read the prompts; see `untrained_prompts`."""
        self._tokenizer = tokenizer
        self.prompts = frozenset(prompts)

    def __contains__(self, prompt: Tokens) -> bool:
        """Return whether a prompt is one of them."""
        return bool(self.prompts) and self._text(prompt) in self._texts

    def without(self, prompts: Iterable[Tokens]) -> list[Tokens]:
        """Return the prompts that are none of them, in order."""
        return [prompt for prompt in prompts if prompt not in self]

    @cached_property
    def _texts(self) -> frozenset[str]:
        return frozenset(map(self._text, self.prompts))

    def _text(self, prompt: Tokens) -> str:
        # Special tokens stay: an unknown word is one.
        text = str(self._tokenizer.decode(list(prompt), clean_up_tokenization_spaces=False))
        return "".join(text.split()).casefold()


def untrained_prompts(held_out: Sequence[Encoded], train: EncodedSource) -> list[Tokens]:
    """Return the prompts of a task's held-out rows that are no training prompts of it.

    Args:
        held_out: its held-out rows.
        train: its train split.
    """
    own = set(every_prompt(train))
    return [prompt for prompt in prompts_of(held_out) if prompt not in own]
