"""Tasks: named data with a train split and a held-out split that is never trained on.

Also the rows as read, each with its place. Knows nothing of file formats, generators, tokenizers or
models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sf_tui.errors import DataError
from sf_tui.vocabulary.sizes import counted


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; `role` is system, user, assistant or tool."""

    role: str
    content: str
    thoughts: str = ""
    """An assistant's reasoning before its answer, without the marks around it."""
    learnt: bool = True
    """Whether an assistant's turn carries loss; a row can turn it off."""
    inline: str = ""
    """Thoughts, marks and answer as the row has them, if it has them in one text."""


@dataclass(frozen=True)
class Example:
    """One prompt with its answer, or one conversation.

    Either `prompt` and `completion` are texts that are joined unchanged, or `messages` holds a
    conversation that the model's chat template renders; every `learnt` assistant turn carries
    loss.
    """

    prompt: str = ""
    completion: str = ""
    messages: tuple[Message, ...] = ()
    group: str = ""
    """An attribute, or the value of a user's group key; probes are spread evenly over groups."""
    place: str = ""
    """Where it was read: file:line, or a name from the generator."""
    token_ids: tuple[int, ...] = ()
    """The whole row as tokens, if it was tokenized elsewhere; it then has no texts."""
    token_labels: tuple[int, ...] = ()
    """Aligned with `token_ids`; -100 for tokens that carry no loss."""

    @property
    def answer(self) -> str | tuple[str, ...]:
        """The text that a model has to write: the completion, or each assistant turn's content."""
        return tuple(m.content for m in self.messages if m.role == "assistant") or self.completion


class ExampleSource(Protocol):
    """A train split: a fixed number of entries, which may read differently in each epoch."""

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

    def example(self, index: int, draw: int) -> Example:  # noqa: ARG002  required by the protocol
        """Return example `index`, the same in every epoch."""
        return self.examples[index]


@dataclass(frozen=True)
class Task:
    """Named data: a train split, and held-out examples that score it."""

    name: str
    train: ExampleSource
    held_out: Sequence[Example]
    guess_floor: dict[str, float] = field(default_factory=dict)
    """For each group, the score of always giving its most frequent answer."""
    notes: tuple[str, ...] = ()
    """Notes for the user: the schema, the split, rows left out."""


def prompt_key(example: Example) -> tuple[str, ...]:
    """Return a key that two examples share if they have the same prompt.

    The prompt of a conversation is everything before its first answer, because a longer
    conversation contains the answers of a shorter one. Plain text has no prompt and is its own
    key.
    """
    if example.messages:
        first = next(i for i, m in enumerate(example.messages) if m.role == "assistant")
        return tuple(f"{m.role}:{m.content}" for m in example.messages[:first])
    if example.prompt.strip():
        return ("prompt", example.prompt)
    return ("text", example.completion)


def content_key(example: Example) -> tuple[str, ...]:
    """Return a key that two examples share if they are identical."""
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


SHOWN_BAD_ROWS = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its fields by name, and its place (file:line, or file and row)."""

    place: str
    values: dict[str, Any]
    lines: int = 1
    """Number of lines in the file; more than one if a cell contains line breaks."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be used: its place and the reason."""

    place: str
    reason: str
    lines: int = 1
    """Number of lines lost with it: a broken record can span many."""

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class RowError(ValueError):
    """A fault in one row; a caller that knows its place makes it a `BadRow`.

    Args:
        reason: what is wrong.
        hint: what to do about it, if the usual advice does not help.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


def bad_rows_error(first: Sequence[BadRow], bad: int, rows: int, hint: str) -> DataError:
    """Build the error that names the first bad rows, their total number and the remedy.

    Args:
        first: at least one of the bad rows, in file order.
        bad: number of bad rows.
        rows: number of rows read, good and bad.
        hint: what to do about it.
    """
    shown = [str(row) for row in first[:SHOWN_BAD_ROWS]]
    if bad > len(shown):
        shown.append(f"and {bad - len(shown)} more")
    shown.append(f"{bad} of {count_rows(rows)} can't be used")
    return DataError("\n  ".join(shown), hint)


def count_rows(rows: int) -> str:
    """Return "1 row" or "7 rows"."""
    return counted(rows, "row")


def kind_of(value: Any) -> str:
    """Return the JSON type of `value` in everyday words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return f"a number ({value})" if len(str(value)) <= 20 else "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    return type(value).__name__


SHOWN_FIELDS = 12
LONGEST_NAME = 60


def listed(names: Iterable[Any], most: int = SHOWN_FIELDS) -> str:
    """Return names for a message: the first `most`, shortened, and the number of others."""
    every = list(names)
    shown = ", ".join(short_name(name) for name in every[:most])
    return f"{shown} and {len(every) - most} more" if len(every) > most else shown


def short_name(name: Any) -> str:
    """Return a name for a message, cut beyond `LONGEST_NAME` characters."""
    text = str(name)
    if not text:
        return "(no name)"
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…"
