"""Scoring a model on rows of one task, example by example, by the task's own metric."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.probing import Prober, ProbeResult, spread_evenly
from sf_tui.tasks.encoding import NO_LOSS, Encoded
from sf_tui.tasks.task import majority_counts

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# Of the held-out examples so many choose the best step; all others are reported on.
SELECTION_SHARE = 0.2
_MOST_SELECTING = 128
_FEWEST_SELECTING = 8


@dataclass(frozen=True)
class ScoredRows:
    """Rows of a task that a model is scored on."""

    rows: tuple[Encoded, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each row, within which one answer could be taken for another."""
        return tuple(row.group for row in self.rows)

    def part(self, places: Sequence[int]) -> ScoredRows:
        """Return the rows at some places."""
        return ScoredRows(tuple(self.rows[at] for at in places))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.rows)


def scored_rows(rows: Sequence[Encoded], *, grouped: bool = True) -> ScoredRows:
    """Return rows for scoring; groups with fewer than four rows on average become one group.

    A user's group key may name a document or a subject: it keeps rows together, and does not tell
    which answers could be taken for each other.

    Args:
        rows: what a model is scored on.
        grouped: False makes them one group.
    """
    if not grouped or 4 * len({row.group for row in rows}) > len(rows):
        rows = [replace(row, group="") for row in rows]
    return ScoredRows(tuple(rows))


def split_selection(rows: ScoredRows, seed: int) -> tuple[ScoredRows, ScoredRows]:
    """Part the slice that chooses a step from the one that is reported on.

    Returns:
        A fifth of the rows (8 to 128, at most half), spread evenly over the groups, and the rest.
    """
    order = spread_evenly(rows.groups, derive_seed(seed, "selection"))
    wanted = min(max(round(SELECTION_SHARE * len(rows)), _FEWEST_SELECTING), _MOST_SELECTING)
    count = min(wanted, len(rows) // 2)
    return rows.part(sorted(order[:count])), rows.part(sorted(order[count:]))


class Scorer:
    """Scores rows under the model as it stands."""

    def __init__(
        self, model: PreTrainedModel, compute: ComputeSetting, *, pad_id: int, pass_tokens: int
    ) -> None:
        self._prober_of = lambda longest: Prober(
            model, compute, pad_id=pad_id, batch_tokens=max(pass_tokens, longest)
        )
        self.forwarded = 0

    def scores(self, rows: ScoredRows, metric: str) -> np.ndarray:
        """Return each row's score in [0, 1].

        Args:
            rows: what to score.
            metric: `exact`, `first_token`, or anything else for the share of right answer tokens
                (a likelihood has no share; its tokens stand in for it).

        Returns:
            (rows,) float64.
        """
        if not rows.rows:
            return np.zeros(0)
        found = self._probe(rows)
        if metric == "exact_match":
            return found.exact.astype(np.float64)
        if metric == "first_token_accuracy":
            return found.first_token.astype(np.float64)
        return found.correct_tokens / np.maximum(found.answer_tokens, 1)

    def loss(self, rows: ScoredRows) -> float:
        """Return the cross-entropy of some rows' answers, in nats a token; there is a row."""
        return self._probe(rows).measures()["nll"]

    def accuracy(self, rows: ScoredRows, metric: str) -> float:
        """Return the mean score."""
        return float(self.scores(rows, metric).mean()) if rows.rows else 0.0

    def _probe(self, rows: ScoredRows) -> ProbeResult:
        lengths = [len(row.input_ids) for row in rows.rows]
        self.forwarded += sum(lengths)
        return self._prober_of(max(lengths)).probe(rows.rows)


def guess_floor(rows: ScoredRows) -> float:
    """Return what always giving each group's most frequent answer would score."""
    counts = majority_counts((row.group, _answer(row)) for row in rows.rows)
    return sum(most for most, _ in counts.values()) / len(rows) if len(rows) else 0.0


def exchange_answers(rows: ScoredRows, seed: int, max_length: int | None = None) -> ScoredRows:
    """Return the rows with another row's answer each: facts that are not so.

    The stand-in for facts that the model never saw, where none are given: whoever gives these
    answers has guessed. A row whose group holds no other answer that it has room for is left out.

    Args:
        rows: the rows.
        seed: decides who gets whose.
        max_length: tokens that the model takes; None: any number.
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
    return ScoredRows(tuple(found))


def _answer(row: Encoded) -> tuple[int, ...]:
    return tuple(label for label in row.labels if label != NO_LOSS)


def _with_answer(row: Encoded, other: Encoded) -> Encoded:
    prompt = row.input_ids[: _answer_start(row)]
    start = _answer_start(other)
    labels = [*([NO_LOSS] * len(prompt)), *other.labels[start:]]
    return replace(row, input_ids=[*prompt, *other.input_ids[start:]], labels=labels)


def _answer_start(row: Encoded) -> int:
    return next((at for at, label in enumerate(row.labels) if label != NO_LOSS), len(row.labels))
