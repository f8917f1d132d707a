"""Teacher-forced probes against greedy `generate`: do they agree, and how much faster are they.

Both see the same examples in the same batches; `generate` is transformers' own, with its cache.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GenerationConfig

from sf_tui.engine.probing import Prober
from sf_tui.tasks.encoding import NO_LOSS, Encoded

if TYPE_CHECKING:
    from sf_tui.engine.compute import ComputeSetting
    from sf_tui.engine.loading import LoadedModel

# More than any batch holds, so that the batch size alone says how many examples a pass takes.
_NO_BOUND = 1 << 30


@dataclass(frozen=True)
class Question:
    """An example taken apart: what the model is given, and what it should answer."""

    prompt: list[int]
    answer: list[int]
    """With its end token, where it has one."""

    @classmethod
    def of(cls, row: Encoded) -> Question:
        """Take a row with one answer at its end apart."""
        start = next(at for at, label in enumerate(row.labels) if label != NO_LOSS)
        return cls(row.input_ids[:start], row.input_ids[start:])

    def as_row(self) -> Encoded:
        """Return the example as it is probed."""
        return Encoded(self.prompt + self.answer, [NO_LOSS] * len(self.prompt) + list(self.answer))


class GreedyDecoder:
    """Answers batches of questions by `generate`."""

    def __init__(self, loaded: LoadedModel, compute: ComputeSetting, batch_size: int) -> None:
        # A model's own habits (a repetition penalty, …) would not be greedy decoding.
        loaded.model.generation_config = GenerationConfig()
        self._loaded = loaded
        self._compute = compute
        self._batch_size = batch_size

    def exact(self, questions: Sequence[Question]) -> np.ndarray:
        """Tell for each question whether greedy decoding gives its whole answer.

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

    def write(self, questions: Sequence[Question], *, tokens: int | None) -> None:
        """Answer every question with exactly `tokens` tokens; None: as long as it would be."""
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
        # An empty prompt is still asked something: by a token that attention passes over.
        width = max(width, 1)
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


def batch_prober(loaded: LoadedModel, compute: ComputeSetting, batch_size: int) -> Prober:
    """Return a prober that takes batches of exactly as many examples as `generate` does."""
    return Prober(
        loaded.model,
        compute,
        pad_id=loaded.pad_id,
        batch_tokens=_NO_BOUND,
        batch_size=batch_size,
    )


def time_both(
    prober: Prober,
    decoder: GreedyDecoder,
    questions: Sequence[Question],
    *,
    tokens: int | None,
    repetitions: int,
) -> tuple[list[float], list[float]]:
    """Score the same questions by turns in one pass and by `generate`.

    Args:
        prober: takes one pass.
        decoder: takes a pass a token.
        questions: their answers have `tokens` tokens where that is given.
        tokens: how many tokens `generate` must write; None: as many as the answers have.
        repetitions: how often each is timed, after one that isn't.

    Returns:
        Seconds of each repetition, by the probe and by `generate`.
    """
    rows = [question.as_row() for question in questions]
    probed, generated = [], []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        prober.probe(rows)
        between = time.perf_counter()
        decoder.write(questions, tokens=tokens)
        probed.append(between - start)
        generated.append(time.perf_counter() - between)
    return probed[1:], generated[1:]


def with_answers_of(questions: Sequence[Question], tokens: int, seed: int) -> list[Question]:
    """Return the same prompts with answers of `tokens` tokens out of all the answers' tokens."""
    random = np.random.default_rng(seed)
    pool = sorted({token for question in questions for token in question.answer})
    return [
        Question(question.prompt, [pool[at] for at in random.integers(len(pool), size=tokens)])
        for question in questions
    ]
