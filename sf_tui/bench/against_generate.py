"""Teacher-forced probes against greedy `generate`: do they agree, and how much faster are they.

Both see the same examples, and in the comparison of speed the same number of them at once.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sf_tui.bench.alternating import median_ratio
from sf_tui.bench.clock import Clock
from sf_tui.bench.greedy import GreedyDecoder, Question
from sf_tui.engine.probing import Prober

if TYPE_CHECKING:
    from sf_tui.engine.compute import ComputeSetting
    from sf_tui.engine.loading import LoadedModel
    from sf_tui.tasks.encoding import Encoded

LONG_ANSWER = 64
"""Tokens of the answers that stand for instruction data."""

BATCH_SIZES = (1, 4, 8)
"""Examples at once. The larger the batch, the smaller the gain: `generate` takes a step a token,
and a step of few tokens keeps no processor busy."""

_BATCHES = 2
_REPETITIONS = 3
# More than any batch holds, so that the number of examples alone says how large a pass is.
_NO_BOUND = 1 << 30


@dataclass(frozen=True)
class Speed:
    """Medians over repetitions of the same questions."""

    batch_size: int
    times_faster: float
    probe_seconds: float
    generate_seconds: float
    answer_tokens: float
    """Of the median answer, its end token included."""


class Comparison:
    """Probes and decodes the same held-out examples."""

    def __init__(
        self,
        loaded: LoadedModel,
        compute: ComputeSetting,
        rows: Sequence[Encoded],
        clock: Clock,
    ) -> None:
        """Take the model and its held-out examples, each with one answer at its end."""
        self._clock = clock
        self._loaded = loaded
        self._compute = compute
        self._rows = rows
        self._questions = [Question.of(row) for row in rows]

    def exact(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return exact match of every example by a probe and by `generate`, both (examples,)."""
        by_probe = self._prober(batch_size).probe(self._rows).exact
        decoder = GreedyDecoder(self._loaded, self._compute, batch_size)
        return by_probe, decoder.exact(self._questions)

    def speed(self, batch_size: int, answer: int | None) -> Speed:
        """Time both on some examples by turns, after one turn that isn't timed.

        Args:
            batch_size: examples of a pass and of a call of `generate`.
            answer: tokens that every answer has and `generate` must write; None: the examples'
                own answers.
        """
        every = max(len(self._questions) // (_BATCHES * batch_size), 1)
        questions = self._questions[::every][: _BATCHES * batch_size]
        if answer is not None:
            questions = _with_answers(questions, answer)
        rows = [question.as_row() for question in questions]
        prober = self._prober(batch_size)
        decoder = GreedyDecoder(self._loaded, self._compute, batch_size)
        probed, generated = [], []
        for _ in range(_REPETITIONS + 1):
            start = self._clock.now()
            prober.probe(rows)
            between = self._clock.now()
            decoder.write(questions, answer)
            probed.append(between - start)
            generated.append(self._clock.now() - between)
        return Speed(
            batch_size,
            median_ratio(generated[1:], probed[1:]),
            statistics.median(probed[1:]),
            statistics.median(generated[1:]),
            statistics.median(len(question.answer) for question in questions),
        )

    def _prober(self, batch_size: int) -> Prober:
        return Prober(
            self._loaded.model,
            self._compute,
            pad_id=self._loaded.pad_id,
            batch_tokens=_NO_BOUND,
            batch_size=batch_size,
        )


def _with_answers(questions: Sequence[Question], tokens: int) -> list[Question]:
    """Return the same prompts with answers of `tokens` tokens out of all the answers' tokens."""
    random = np.random.default_rng(0)
    pool = sorted({token for question in questions for token in question.answer})
    return [
        Question(question.prompt, [pool[at] for at in random.integers(len(pool), size=tokens)])
        for question in questions
    ]
