"""Teacher-forced probes against batched greedy `generate`: agreement, and speed.

Both use the same examples and, when speed is compared, the same batch size. Knows only examples
with one answer at their end.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GenerationConfig

from sf_tui.bench.harness import Clock, median_ratio
from sf_tui.engine.probing import Prober
from sf_tui.tasks.encoding import NO_LOSS, Encoded

if TYPE_CHECKING:
    from sf_tui.engine.compute import ComputeSetting
    from sf_tui.engine.loading import LoadedModel
    from sf_tui.tasks.encoding import Encoded


@dataclass(frozen=True)
class Question:
    """An example split into prompt and answer tokens."""

    prompt: list[int]
    answer: list[int]
    """Includes the end token if the example has one."""

    @classmethod
    def of(cls, row: Encoded) -> Question:
        """Split a row that has one answer at its end."""
        start = next(at for at, label in enumerate(row.labels) if label != NO_LOSS)
        return cls(row.input_ids[:start], row.input_ids[start:])

    def as_row(self) -> Encoded:
        """Return the example as a row for a probe."""
        return Encoded(self.prompt + self.answer, [NO_LOSS] * len(self.prompt) + self.answer)


class GreedyDecoder:
    """Greedy decoding by transformers' `generate`, with its cache."""

    def __init__(self, loaded: LoadedModel, compute: ComputeSetting, batch_size: int) -> None:
        # The model's own settings (a repetition penalty, …) would change greedy decoding.
        loaded.model.generation_config = GenerationConfig()
        self._loaded = loaded
        self._compute = compute
        self._batch_size = batch_size

    def exact(self, questions: Sequence[Question]) -> np.ndarray:
        """Return for each question whether greedy decoding reproduces its whole answer.

        Returns:
            (questions,) bool.
        """
        found = np.zeros(len(questions), bool)
        for places in self._batches(questions):
            batch = [questions[at] for at in places]
            longest = max(len(question.answer) for question in batch)
            for at, made in zip(places, self._generate(batch, 0, longest), strict=True):
                answer = questions[at].answer
                found[at] = made[: len(answer)] == answer
        return found

    def write(self, questions: Sequence[Question], tokens: int | None) -> None:
        """Generate exactly `tokens` tokens for every question; None: the length of its answer."""
        for places in self._batches(questions):
            batch = [questions[at] for at in places]
            longest = tokens or max(len(question.answer) for question in batch)
            self._generate(batch, tokens or 0, longest)

    def _batches(self, questions: Sequence[Question]) -> list[list[int]]:
        order = sorted(range(len(questions)), key=lambda at: (len(questions[at].prompt), at))
        size = self._batch_size
        return [order[at : at + size] for at in range(0, len(order), size)]

    @torch.no_grad()
    def _generate(self, batch: Sequence[Question], fewest: int, most: int) -> list[list[int]]:
        width = max(len(question.prompt) for question in batch)
        input_ids = torch.full((len(batch), width), self._loaded.pad_id)
        mask = torch.zeros((len(batch), width), dtype=torch.int64)
        for at, question in enumerate(batch):
            start = width - len(question.prompt)
            input_ids[at, start:] = torch.tensor(question.prompt, dtype=torch.int64)
            mask[at, start:] = 1
        model: Any = self._loaded.model.eval()
        with self._compute.autocast():
            made = model.generate(
                input_ids=input_ids.to(self._compute.device),
                attention_mask=mask.to(self._compute.device),
                min_new_tokens=fewest or None,
                max_new_tokens=most,
                do_sample=False,
                num_beams=1,
                use_cache=True,
                eos_token_id=self._loaded.tokenizer.eos_token_id,
                pad_token_id=self._loaded.pad_id,
            )
        answers: list[list[int]] = made[:, width:].tolist()
        return answers


LONG_ANSWER = 64
"""Answer length in tokens that stands in for instruction data."""

BATCH_SIZES = (1, 4, 8)
"""Batch sizes. The gain shrinks as the batch grows: `generate` runs one step per token, and a step
of few tokens leaves the processor idle."""

_BATCHES = 2
_REPETITIONS = 3
# Larger than any batch, so that only the number of examples limits a pass.
_NO_BOUND = 1 << 30


@dataclass(frozen=True)
class Speed:
    """Median seconds over repetitions on the same questions."""

    batch_size: int
    times_faster: float
    probe_seconds: float
    generate_seconds: float
    answer_tokens: float
    """Length of the median answer, including its end token."""


class Comparison:
    """Probing and decoding of the same held-out examples."""

    def __init__(
        self,
        loaded: LoadedModel,
        compute: ComputeSetting,
        rows: Sequence[Encoded],
        clock: Clock,
    ) -> None:
        """Prepare a comparison on held-out examples that each have one answer at their end."""
        self._clock = clock
        self._loaded = loaded
        self._compute = compute
        self._rows = rows
        self._questions = [Question.of(row) for row in rows]

    def exact(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return each example's exact match by a probe and by `generate`, both (examples,)."""
        by_probe = self._prober(batch_size).probe(self._rows).exact
        decoder = GreedyDecoder(self._loaded, self._compute, batch_size)
        return by_probe, decoder.exact(self._questions)

    def speed(self, batch_size: int, answer: int | None) -> Speed:
        """Time both on a sample of the examples in turn, after one untimed turn.

        Args:
            batch_size: examples per pass and per call of `generate`.
            answer: length of every answer in tokens; None: the examples' own answers.
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
    """Return the prompts with answers of `tokens` tokens, drawn from the tokens of all answers."""
    random = np.random.default_rng(0)
    pool = sorted({token for question in questions for token in question.answer})
    return [
        Question(question.prompt, [pool[at] for at in random.integers(len(pool), size=tokens)])
        for question in questions
    ]
