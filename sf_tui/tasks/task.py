"""What a task is: named data with a train split and a held-out split that no training sees.

Knows nothing of files, generators, tokenizers or models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; `role` is system, user, assistant or tool."""

    role: str
    content: str
    thoughts: str = ""
    """What an assistant reasons before its answer, without the marks around it."""
    learnt: bool = True
    """Whether an assistant's turn carries loss; a row may say that it does not."""
    inline: str = ""
    """Thoughts, marks and answer exactly as the row has them, where they stand in one text."""


@dataclass(frozen=True)
class Example:
    """One prompt with its answer, or one conversation.

    Either `prompt` and `completion` are texts, joined as they stand, or `messages` holds the
    conversation and the model's chat template renders it; every assistant turn that is learnt
    carries loss.
    """

    prompt: str = ""
    completion: str = ""
    messages: tuple[Message, ...] = ()
    group: str = ""
    """What a probe spreads its examples over (an attribute, a user's group key)."""
    place: str = ""
    """Where it was read: file:line, or a name from the generator."""

    @property
    def answer(self) -> str | tuple[str, ...]:
        """What a model has to write: the completion, or the content of each assistant turn."""
        return tuple(m.content for m in self.messages if m.role == "assistant") or self.completion


class ExampleSource(Protocol):
    """The train split: a fixed number of entries, each of which may be drawn anew."""

    def __len__(self) -> int:
        """Return the number of entries in one epoch."""
        ...

    def example(self, index: int, draw: int) -> Example:
        """Return entry `index` as it reads in epoch `draw` (0, 1, …), the same on every call."""
        ...


@dataclass(frozen=True)
class FixedExamples:
    """A train split whose entries read the same in every epoch."""

    examples: Sequence[Example]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.examples)

    def example(self, index: int, draw: int) -> Example:  # noqa: ARG002  the protocol's
        """Return example `index`, whatever the epoch."""
        return self.examples[index]


@dataclass(frozen=True)
class Task:
    """Named data: what training sees, and what it is scored on."""

    name: str
    train: ExampleSource
    held_out: Sequence[Example]
    guess_floor: dict[str, float] = field(default_factory=dict)
    """For each group, the share that its most frequent answer alone gets right."""
    notes: tuple[str, ...] = ()
    """What a person should know of this data: its schema, its split, rows left out."""


def prompt_key(example: Example) -> tuple[str, ...]:
    """Return what two examples share when they ask the same.

    For a conversation that is all before the first answer: one that goes on further holds the
    shorter one's answer. A text without a prompt asks nothing, so it is its own key.
    """
    if example.messages:
        first = next(i for i, m in enumerate(example.messages) if m.role == "assistant")
        return tuple(f"{m.role}:{m.content}" for m in example.messages[:first])
    if example.prompt.strip():
        return ("prompt", example.prompt)
    return ("text", example.completion)


def content_key(example: Example) -> tuple[str, ...]:
    """Return what two examples share when they are the same to the last sign."""
    if example.messages:
        return tuple(f"{m.role}:{m.thoughts}\x1f{m.content}" for m in example.messages)
    return ("prompt", example.prompt, "completion", example.completion)


def majority_counts(answers: Iterable[tuple[str, Hashable]]) -> dict[str, tuple[int, int]]:
    """Return for each group how often its most frequent answer occurs, and its number of answers.

    Args:
        answers: the group and the answer of each example.
    """
    groups: dict[str, Counter[Hashable]] = {}
    for group, answer in answers:
        groups.setdefault(group, Counter())[answer] += 1
    return {group: (max(found.values()), found.total()) for group, found in groups.items()}


def guess_floor(examples: Iterable[Example], *, grouped: bool = True) -> dict[str, float]:
    """Return for each group the score of always giving its most frequent answer.

    Args:
        examples: what a model is scored on.
        grouped: False takes all examples as one group, "".
    """
    counts = majority_counts((one.group if grouped else "", one.answer) for one in examples)
    return {group: most / total for group, (most, total) in counts.items()}
