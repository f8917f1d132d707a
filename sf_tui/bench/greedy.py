"""Batched greedy decoding by transformers' own `generate`, with its cache.

Knows examples with one answer at their end. Knows nothing of probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GenerationConfig

from sf_tui.tasks.encoding import NO_LOSS, Encoded

if TYPE_CHECKING:
    from sf_tui.engine.compute import ComputeSetting
    from sf_tui.engine.loading import LoadedModel


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
        return Encoded(self.prompt + self.answer, [NO_LOSS] * len(self.prompt) + self.answer)


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

    def write(self, questions: Sequence[Question], tokens: int | None) -> None:
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
