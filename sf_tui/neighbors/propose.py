"""Neighbor prompts of every kind, in the proportions that a profile sets.

Kinds: `substitution` (one token of the template replaced by a likely one: another task),
`same_template` (the new task's own template with other words in its slot), `random_words` (random
words around such a slot), `random_tokens` (random tokens inside the chat format), `written`
(prompts that the start model writes itself). Coverage matters most on a small model, nearness on a
large one; a mixture of all kinds is a good start.

Slot words come from three sources, none of which is always best: samples of the start model,
recombined words of the new prompts, and the words nearest to those in the model's input embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.parts import whole
from sf_tui.neighbors.anatomy import AnatomizedPrompt, Anatomy, Tokens
from sf_tui.neighbors.held_out import HeldOutPrompts
from sf_tui.neighbors.start_model import StartModel
from sf_tui.neighbors.substitution import KEPT, substitute, substitution_positions

NEAREST = 100
"""Number of nearest words considered for each position of a slot."""

# Most slot tokens replaced at once; prompts that share nothing have long slots.
LONGEST_SPAN = 8

# Most slots that the model fills; beyond it, fillings are reused.
MOST_FILLINGS = 4000

# Number of nearest words over which the similarity to a position's words is averaged.
_COMPARED = 5


class SlotWords:
    """Draws fillings for the slots of a task's prompts."""

    def __init__(
        self, prompts: Sequence[AnatomizedPrompt], start: StartModel, seed: int, fillings: int
    ) -> None:
        """Sample fillings from the start model.

        Args:
            prompts: the new task's.
            start: the start model.
            seed: determines every draw.
            fillings: number of prompts that the model fills.
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
        """Whether any prompt of the task has a slot."""
        return bool(self._prompts)

    def choose(self) -> tuple[AnatomizedPrompt, tuple[int, int]]:
        """Draw a prompt of the task and a span of its slot."""
        prompt = self._prompts[self._random.integers(len(self._prompts))]
        first, end = prompt.spans[self._random.integers(len(prompt.spans))]
        if end - first > LONGEST_SPAN:
            first += int(self._random.integers(end - first - LONGEST_SPAN + 1))
            end = first + LONGEST_SPAN
        return prompt, (first, end)

    def draw(self) -> tuple[AnatomizedPrompt, tuple[int, int], Tokens]:
        """Draw a prompt, a span of its slot, and other words for it."""
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
        # No slot has the length of a span cut from a longer one: use the longer ones.
        return self._by_length.get(length) or [
            words for size, several in self._by_length.items() if size > length for words in several
        ]

    def _near_to(self, length: int, place: int, pool: Sequence[Tokens]) -> np.ndarray:
        """Return the words nearest to those at one position of the slots of one length."""
        if (length, place) not in self._near:
            own = torch.tensor(sorted({words[place] for words in pool}))
            words = torch.from_numpy(self._start.words)
            vectors = whole(self._start.embeddings.detach()).float().cpu()
            vectors = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=1)
            likeness = vectors[words] @ vectors[own].T
            likeness = likeness.topk(min(_COMPARED, len(own)), dim=1).values.mean(1)
            nearest = words[likeness.topk(min(NEAREST, len(words))).indices]
            self._near[length, place] = torch.unique(torch.cat([own, nearest])).numpy()
        return self._near[length, place]


KINDS = ("substitution", "same_template", "random_words", "random_tokens", "written")

# Random prompts are about as long as the new task's texts, in tokens, within these bounds.
_SHORTEST_RANDOM = 3
_LONGEST_RANDOM = 24

# Substitutions made for each one used; the likeliest are used. Nearness matters most on a model
# that knows many tasks.
_CHOICE = 4

# Draws per wanted prompt after which a kind counts as exhausted.
_PATIENCE = 20


@dataclass(frozen=True)
class Neighbor:
    """A prompt near the new task's."""

    tokens: Tokens
    kind: str


class LeftOut:
    """Subjects that no neighbor may repeat: whole slots of held-out examples.

    Attributes:
        subjects: the subjects, without empty ones.
    """

    def __init__(self, subjects: Collection[Tokens]) -> None:
        self.subjects = frozenset(subject for subject in subjects if subject)
        self._by_length: dict[int, set[Tokens]] = {}
        for subject in self.subjects:
            self._by_length.setdefault(len(subject), set()).add(subject)

    def __contains__(self, tokens: Tokens) -> bool:
        """Return whether a prompt contains one of them."""
        return any(
            tokens[at : at + length] in subjects
            for length, subjects in self._by_length.items()
            for at in range(len(tokens) - length + 1)
        )


def subjects_of(anatomy: Anatomy) -> set[Tokens]:
    """Return the subjects of a task's prompts, each a whole slot."""
    return {prompt.subject for prompt in anatomy.prompts if prompt.subject}


def propose(
    anatomy: Anatomy,
    start: StartModel,
    kinds: Mapping[str, float],
    count: int,
    seed: int,
    left_out: LeftOut | None = None,
    own: Collection[Tokens] = (),
    fillings: int | None = None,
    held_out: HeldOutPrompts | None = None,
) -> list[Neighbor]:
    """Return neighbors of a task's prompts, each once and none of them the task's own.

    Args:
        anatomy: of the new task's prompts.
        start: the start model.
        kinds: weight of each kind; kinds not listed are left out.
        count: number of neighbors; fewer are returned if there are not enough distinct ones.
        seed: determines every draw.
        left_out: subjects that none may contain.
        own: further prompts of the task, if `anatomy` holds only a sample.
        fillings: number of slots that the start model fills; None: `count`. Of three sources of
            slot words this is the only one that runs the model.
        held_out: prompts that none may be.
    """
    proposer = _Proposer(anatomy, start, seed, kinds, count if fillings is None else fillings)
    wanted = _split(count, {kind: kinds.get(kind, 0.0) for kind in KINDS if kinds.get(kind)})
    taken = {prompt.tokens for prompt in anatomy.prompts} | set(own)
    found: list[Neighbor] = []
    short = 0
    # Later kinds make up for the shortfall of earlier ones; random tokens never run out.
    for kind in (kind for kind in KINDS if kind in wanted):
        target = wanted[kind] + short
        got = 0
        for tokens in proposer.of_kind(kind, target):
            if got == target:
                break
            if tokens in taken or (left_out is not None and tokens in left_out):
                continue
            if held_out is not None and tokens in held_out:
                continue
            taken.add(tokens)
            found.append(Neighbor(tokens, kind))
            got += 1
        short = target - got
    return found


class _Proposer:
    def __init__(
        self,
        anatomy: Anatomy,
        start: StartModel,
        seed: int,
        kinds: Mapping[str, float],
        fillings: int,
    ) -> None:
        self._anatomy = anatomy
        self._start = start
        self._seed = seed
        # The names of seeds stay as they are: another spelling would change every draw.
        self._random = np.random.default_rng(derive_seed(seed, "neighbours"))
        needs_words = kinds.get("same_template") or kinds.get("random_words")
        self._slot_words = SlotWords(anatomy.prompts, start, seed, fillings if needs_words else 0)

    def of_kind(self, kind: str, count: int) -> Iterator[Tokens]:
        """Yield prompts of one kind, possibly with repetitions."""
        makers: dict[str, Callable[[], Tokens]] = {
            "same_template": self._same_template,
            "random_words": self._words_around,
            "random_tokens": self._random_tokens,
        }
        if kind == "substitution":
            yield from self._substitutions(count)
        elif kind == "written":
            yield from self._written(count)
        elif kind == "random_tokens" or self._slot_words.has_slot:
            for _ in range(_PATIENCE * count):
                yield makers[kind]()

    def _substitutions(self, count: int) -> Iterator[Tokens]:
        """Yield the likeliest substitutions, drawn from enough prompts to choose among.

        They ask other questions than the new task's: an anchor on the new task's own questions
        would keep the model from learning them. If a task has no template, every position is
        substituted.
        """
        prompts = list(self._anatomy.prompts)
        order = np.random.default_rng(derive_seed(self._seed, "substituted")).permutation(
            len(prompts)
        )
        in_slots = not any(substitution_positions(prompt, in_slots=False) for prompt in prompts)
        # Each prompt gives `KEPT` per position; about half of them repeat other prompts'.
        positions = np.mean(
            [len(substitution_positions(prompt, in_slots=in_slots)) for prompt in prompts]
        )
        a_prompt = 0.5 * KEPT * max(float(positions), 1.0)
        needed = min(max(int(np.ceil(_CHOICE * count / a_prompt)), 1), len(prompts))
        chosen = [prompts[at] for at in order[:needed]]
        found = substitute(self._anatomy, chosen, self._start, in_slots=in_slots)
        yield from (one.tokens for one in found)

    def _same_template(self) -> Tokens:
        prompt, (first, end), words = self._slot_words.draw()
        return (*prompt.tokens[:first], *words, *prompt.tokens[end:])

    def _words_around(self) -> Tokens:
        prompt, (first, end), words = self._slot_words.draw()
        before = self._random_words(first - prompt.first)
        behind = self._random_words(prompt.end - end)
        form = self._anatomy.chat_format
        return (*form.opening, *before, *words, *behind, *form.closing)

    def _random_tokens(self) -> Tokens:
        prompts = self._anatomy.prompts
        prompt = prompts[self._random.integers(len(prompts))]
        length = min(max(prompt.end - prompt.first, _SHORTEST_RANDOM), _LONGEST_RANDOM)
        form = self._anatomy.chat_format
        return (*form.opening, *self._random_words(length), *form.closing)

    def _written(self, count: int) -> Iterator[Tokens]:
        """Yield prompts cut at a random position and continued by the start model."""
        form = self._anatomy.chat_format
        chosen: list[AnatomizedPrompt] = []
        spans = []
        for _ in range(2 * count):
            prompt = self._anatomy.prompts[self._random.integers(len(self._anatomy.prompts))]
            cut = int(self._random.integers(prompt.first, max(prompt.end, prompt.first + 1)))
            chosen.append(prompt)
            spans.append((cut, prompt.end))
        filled = self._start.fill(
            [prompt.tokens for prompt in chosen], spans, derive_seed(self._seed, "written")
        )
        for prompt, tokens in zip(chosen, filled, strict=True):
            yield (*tokens[: prompt.end], *form.closing)

    def _random_words(self, count: int) -> Sequence[int]:
        return [int(word) for word in self._random.choice(self._start.words, count)]


def _split(count: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Split a number by weights; the first parts get the remainder of rounding."""
    total = sum(weights.values())
    parts = {kind: int(count * weight / total) for kind, weight in weights.items()}
    for kind in list(parts)[: count - sum(parts.values())]:
        parts[kind] += 1
    return parts
