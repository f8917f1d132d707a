"""Scores a model on rows of one task, per example, with the task's own metric.

Knows which rows choose a step and which are for reporting, and the score of guessing. Knows neither
start weights nor recoveries. Also finds the neighbor prompts that would leak the answers of a
recovery test.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.probing import Prober, ProbeResult, spread_evenly
from sf_tui.neighbors.anatomy import Tokens, anatomize, prompt_of, prompts_of
from sf_tui.neighbors.cache import TeacherCache
from sf_tui.neighbors.propose import LeftOut
from sf_tui.tasks.encoding import NO_LOSS, Encoded
from sf_tui.tasks.task import majority_counts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SELECTION_SHARE = 0.2
"""Share of the held-out examples for choosing the best step; the rest is for reporting."""
_MOST_SELECTING = 128
_FEWEST_SELECTING = 8


@dataclass(frozen=True)
class EvalSet:
    """Rows of a task for scoring a model."""

    rows: tuple[Encoded, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each row; answers within a group can be confused with each other."""
        return tuple(row.group for row in self.rows)

    def subset(self, places: Sequence[int]) -> EvalSet:
        """Return the rows at the given indices."""
        return EvalSet(tuple(self.rows[at] for at in places))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)


def eval_set(rows: Sequence[Encoded], *, grouped: bool = True) -> EvalSet:
    """Return rows for scoring; groups with fewer than four rows on average are merged into one.

    A user's group key may name a document or a subject. Such a key keeps rows together, but does
    not show which answers can be confused with each other.

    Args:
        rows: the rows.
        grouped: False puts all rows into one group.
    """
    if not grouped or 4 * len({row.group for row in rows}) > len(rows):
        rows = [replace(row, group="") for row in rows]
    return EvalSet(tuple(rows))


def split_selection(rows: EvalSet, seed: int) -> tuple[EvalSet, EvalSet]:
    """Split rows into a slice for choosing a step and a slice for reporting.

    Returns:
        A fifth of the rows (8 to 128, at most half), spread evenly over the groups, and the rest.
    """
    order = spread_evenly(rows.groups, derive_seed(seed, "selection"))
    wanted = min(max(round(SELECTION_SHARE * len(rows)), _FEWEST_SELECTING), _MOST_SELECTING)
    count = min(wanted, len(rows) // 2)
    return rows.subset(sorted(order[:count])), rows.subset(sorted(order[count:]))


class Scorer:
    """Scores rows under the model's current weights.

    Attributes:
        forwarded: number of tokens passed through the model so far.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        compute: ComputeSetting,
        *,
        pad_id: int,
        pass_tokens: int,
        between: Callable[[], None] | None = None,
    ) -> None:
        self._prober_of = lambda longest: Prober(
            model,
            compute,
            pad_id=pad_id,
            batch_tokens=max(pass_tokens, longest),
            between=between,
        )
        self._in_step = compute.in_step
        self.forwarded = 0

    def scores(self, rows: EvalSet, metric: str) -> np.ndarray:
        """Return each row's score in [0, 1].

        Args:
            rows: the rows to score.
            metric: a name from `vocabulary.metrics`; for `nll`, the score is the share of correct
                answer tokens, as a likelihood has no score in [0, 1].

        Returns:
            (rows,) float64.
        """
        if not rows.rows:
            return np.zeros(0)
        found = self._probe(rows)
        if metric == "exact_match":
            scores = found.exact
        elif metric == "first_token_accuracy":
            scores = found.first_token
        else:
            scores = found.correct_tokens / np.maximum(found.answer_tokens, 1)
        return np.array(self._in_step.of_main(scores.astype(np.float64).tolist()))

    def loss(self, rows: EvalSet) -> float:
        """Return the cross-entropy of the answers, in nats per token; needs at least one row."""
        (loss,) = self._in_step.of_main([self._probe(rows).measures()["nll"]])
        return loss

    def accuracy(self, rows: EvalSet, metric: str) -> float:
        """Return the mean score of the rows; 0 if there are none."""
        return float(self.scores(rows, metric).mean()) if rows.rows else 0.0

    def _probe(self, rows: EvalSet) -> ProbeResult:
        lengths = [len(row.input_ids) for row in rows.rows]
        self.forwarded += sum(lengths)
        return self._prober_of(max(lengths)).probe(rows.rows)


def majority_baseline(rows: EvalSet) -> float:
    """Return the score of always answering with each group's most frequent answer."""
    counts = majority_counts((row.group, _answer(row)) for row in rows.rows)
    return sum(most for most, _ in counts.values()) / len(rows) if len(rows) else 0.0


def exchange_answers(rows: EvalSet, seed: int, max_length: int | None = None) -> EvalSet:
    """Return the rows with their answers exchanged, which makes false facts.

    They replace unseen facts if none are available: a model that gives these answers is guessing. A
    row is dropped if its group has no other answer that fits.

    Args:
        rows: the rows.
        seed: seed of the exchange.
        max_length: largest row length in tokens; None for no limit.
    """
    random = np.random.default_rng(derive_seed(seed, "exchanged"))
    by_group: dict[str, list[int]] = {}
    for at, group in enumerate(rows.groups):
        by_group.setdefault(group, []).append(at)
    found: list[Encoded] = []
    for _, members in sorted(by_group.items()):
        for at in members:
            own = _answer(rows.rows[at])
            room = (max_length or sys.maxsize) - _answer_start(rows.rows[at])
            others = [
                other
                for other in members
                if _answer(rows.rows[other]) != own
                and len(rows.rows[other].input_ids) - _answer_start(rows.rows[other]) <= room
            ]
            if not others:
                continue
            other = rows.rows[others[random.integers(len(others))]]
            found.append(_with_answer(rows.rows[at], other))
    return EvalSet(tuple(found))


def _answer(row: Encoded) -> tuple[int, ...]:
    return tuple(label for label in row.labels if label != NO_LOSS)


def _with_answer(row: Encoded, other: Encoded) -> Encoded:
    prompt = row.input_ids[: _answer_start(row)]
    start = _answer_start(other)
    labels = [*([NO_LOSS] * len(prompt)), *other.labels[start:]]
    return replace(row, input_ids=[*prompt, *other.input_ids[start:]], labels=labels)


def _answer_start(row: Encoded) -> int:
    return next((at for at, label in enumerate(row.labels) if label != NO_LOSS), len(row.labels))


_TELLING = 2
"""Factor by which a word must raise an answer's probability to reveal it. Any word occurs with a
common answer (yes, a class name); a person's name occurs only with its own answers."""


class Leaks:
    """The subjects of a test's questions, and the words in them that reveal answers.

    Attributes:
        subjects: token runs that no neighbor prompt may contain: over half of a held-out subject.
    """

    def __init__(
        self,
        held_out: Sequence[Encoded],
        others: Sequence[Encoded],
        tokenizer: PreTrainedTokenizerBase,
        *,
        longest: int,
    ) -> None:
        """Analyze the held-out examples.

        Args:
            held_out: the examples that the test scores.
            others: more examples of their task, to separate slots from templates.
            tokenizer: the model's tokenizer.
            longest: length in tokens at which neighbors' answers are truncated.
        """
        self._silent = frozenset({NO_LOSS, *tokenizer.all_special_ids})
        self._longest = longest
        anatomy = anatomize(prompts_of([*held_out, *others]), tokenizer)
        subjects = {prompt.tokens: prompt.subject for prompt in anatomy.prompts}
        asked = [(subjects.get(prompt_of(row), ()), self._answer_of(row)) for row in held_out]
        self.subjects = LeftOut({part for subject, _ in asked for part in _most_of(subject)})
        self._telling = _telling_words(asked)

    def without(self, bank: TeacherCache) -> TeacherCache:
        """Return a bank without the rows that leak answers of the test.

        Such a row has a held-out example's answer, and its prompt contains a word of that
        example's subject that makes the answer likelier.
        """
        return bank.part([at for at, row in enumerate(bank.rows) if not self._tells(row)])

    def _tells(self, row: Encoded) -> bool:
        telling = self._telling.get(self._answer_of(row), frozenset())
        return not telling.isdisjoint(prompt_of(row))

    def _answer_of(self, row: Encoded) -> Tokens:
        answer = [token for token in row.labels if token not in self._silent]
        return tuple(answer[: self._longest])


def _most_of(subject: Tokens) -> list[Tokens]:
    """Return every contiguous run of more than half of a subject's tokens."""
    length = len(subject) // 2 + 1
    return [subject[at : at + length] for at in range(len(subject) - length + 1)]


def _telling_words(asked: Sequence[tuple[Tokens, Tokens]]) -> dict[Tokens, frozenset[int]]:
    """Return, for each answer, the subject words that reveal it."""
    words, answers = Counter[int](), Counter[Tokens]()
    together = Counter[tuple[Tokens, int]]()
    for subject, answer in asked:
        answers[answer] += 1
        for word in set(subject):
            words[word] += 1
            together[answer, word] += 1
    found: dict[Tokens, set[int]] = {}
    for (answer, word), count in together.items():
        if count * len(asked) > _TELLING * words[word] * answers[answer]:
            found.setdefault(answer, set()).add(word)
    return {answer: frozenset(those) for answer, those in found.items()}
