"""Words for a task's slot, from the start model and the new prompts alone.

Three sources, none better than the others by itself: what the start model itself would write in the
slot, the new prompts' own words recombined, and the words that lie nearest to those in the model's
input embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from sf_tui.engine.batches import derive_seed
from sf_tui.neighbors.anatomy import AnatomizedPrompt, Tokens
from sf_tui.neighbors.start_model import StartModel

NEAREST = 100
"""How many words nearest to the slot's own are taken for each of its places."""

# Of a slot that runs on (prompts that share nothing), only so many tokens are exchanged at once.
LONGEST_SPAN = 8

# How often at least the model is asked to fill a slot before its fillings are used again.
MOST_FILLINGS = 4000

# A word's likeness to a place's words is its mean likeness to so many of the nearest of them.
_COMPARED = 5


class SlotWords:
    """Draws fillings for the slots of a task's prompts."""

    def __init__(
        self, prompts: Sequence[AnatomizedPrompt], start: StartModel, seed: int, fillings: int
    ) -> None:
        """Ask the start model for its own fillings.

        Args:
            prompts: the new task's.
            start: the start model.
            seed: decides every draw.
            fillings: how many prompts the model fills.
        """
        self._prompts = [prompt for prompt in prompts if prompt.spans]
        self._random = np.random.default_rng(derive_seed(seed, "slot-words"))
        self._start = start
        self._by_length: dict[int, list[Tokens]] = {}
        for prompt in self._prompts:
            for first, end in prompt.spans:
                self._by_length.setdefault(end - first, []).append(prompt.tokens[first:end])
        self._near: dict[tuple[int, int], np.ndarray] = {}
        self._filled: list[tuple[AnatomizedPrompt, tuple[int, int], Tokens]] = []
        if self._prompts:
            chosen = [self.choose() for _ in range(min(fillings, MOST_FILLINGS))]
            filled = start.fill(
                [prompt.tokens for prompt, _ in chosen],
                [span for _, span in chosen],
                derive_seed(seed, "slot-fillings"),
            )
            self._filled = [
                (prompt, span, tokens[span[0] : span[1]])
                for (prompt, span), tokens in zip(chosen, filled, strict=True)
            ]

    @property
    def has_slot(self) -> bool:
        """Whether the task's prompts differ anywhere in a way that makes a slot."""
        return bool(self._prompts)

    def choose(self) -> tuple[AnatomizedPrompt, tuple[int, int]]:
        """Return one of the task's prompts and a span of its slot to exchange."""
        prompt = self._prompts[self._random.integers(len(self._prompts))]
        first, end = prompt.spans[self._random.integers(len(prompt.spans))]
        if end - first > LONGEST_SPAN:
            first += int(self._random.integers(end - first - LONGEST_SPAN + 1))
            end = first + LONGEST_SPAN
        return prompt, (first, end)

    def draw(self) -> tuple[AnatomizedPrompt, tuple[int, int], Tokens]:
        """Return a prompt, a span of its slot, and other words for it."""
        sources: tuple[Callable[[], tuple[AnatomizedPrompt, tuple[int, int], Tokens]], ...] = (
            self._proposed,
            self._recombined,
            self._nearest,
        )
        return sources[self._random.integers(len(sources))]()

    def _proposed(self) -> tuple[AnatomizedPrompt, tuple[int, int], Tokens]:
        if not self._filled:
            return self._recombined()
        return self._filled[self._random.integers(len(self._filled))]

    def _recombined(self) -> tuple[AnatomizedPrompt, tuple[int, int], Tokens]:
        prompt, span = self.choose()
        pool = self._pool(span)
        words = tuple(
            int(pool[self._random.integers(len(pool))][at]) for at in range(span[1] - span[0])
        )
        return prompt, span, words

    def _nearest(self) -> tuple[AnatomizedPrompt, tuple[int, int], Tokens]:
        prompt, span = self.choose()
        words = []
        for at in range(span[1] - span[0]):
            near = self._near_to(span[1] - span[0], at, self._pool(span))
            words.append(int(near[self._random.integers(len(near))]))
        return prompt, span, tuple(words)

    def _pool(self, span: tuple[int, int]) -> list[Tokens]:
        length = span[1] - span[0]
        # A span cut from a longer slot has no fellows of its length; the longer ones serve.
        return self._by_length.get(length) or [
            words for size, several in self._by_length.items() if size > length for words in several
        ]

    def _near_to(self, length: int, place: int, pool: Sequence[Tokens]) -> np.ndarray:
        """Return the words nearest to those that stand at a place of slots of a length."""
        if (length, place) not in self._near:
            own = torch.tensor(sorted({words[place] for words in pool}))
            words = torch.from_numpy(self._start.words)
            vectors = self._start.embeddings.detach().float().cpu()
            vectors = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=1)
            likeness = vectors[words] @ vectors[own].T
            likeness = likeness.topk(min(_COMPARED, len(own)), dim=1).values.mean(1)
            nearest = words[likeness.topk(min(NEAREST, len(words))).indices]
            self._near[length, place] = torch.unique(torch.cat([own, nearest])).numpy()
        return self._near[length, place]
