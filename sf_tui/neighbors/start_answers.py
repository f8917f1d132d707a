"""The start model's distributions on neighbor prompts, as what a probe compares a model with.

Measures KL(start model ‖ model) in nats per answer token. The start model's distribution at each
position of its own greedy answer is kept once as its k likeliest tokens (`[anchor] top_k`) and the
probability of all others together. The result is therefore a lower bound of the full divergence: it
misses r · KL(start ‖ model among the other tokens), where r is the start model's probability of
those. It is exact where k covers the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sf_tui.neighbors.anchor import divergences
from sf_tui.neighbors.cache import TeacherCache
from sf_tui.tasks.encoding import Encoded


class StartAnswers:
    """What the start model answered to the prompts of a cache, and how surely."""

    def __init__(self, cache: TeacherCache) -> None:
        self._cache = cache
        self._place = {tuple(row.input_ids): at for at, row in enumerate(cache.rows)}

    def knows(self, row: Encoded) -> bool:
        """Return whether a row is one of the start model's answers."""
        return tuple(row.input_ids) in self._place

    def divergences(self, rows: Sequence[Encoded], logits: torch.Tensor) -> torch.Tensor:
        """Return the divergence of each row, summed over its answer tokens, in nats.

        Args:
            rows: the rows of a pass, in the order of the logits.
            logits: (answer tokens of all rows, vocabulary) float32, the model's.

        Returns:
            (rows,) sums, nonnegative; 0 for a row that is not known.
        """
        found = torch.zeros(len(rows), device=logits.device)
        known = [at for at, row in enumerate(rows) if self.knows(row)]
        if not known:
            return found
        counts = [row.answer_tokens for row in rows]
        parts = logits.split(counts)
        places = [self._place[tuple(rows[at].input_ids)] for at in known]
        top_ids, top_logprobs = (each.to(logits.device) for each in self._cache.logprobs(places))
        each = divergences(torch.cat([parts[at] for at in known]), top_ids, top_logprobs)
        sums = [part.sum() for part in each.split([counts[at] for at in known])]
        found[known] = torch.stack(sums).clamp(min=0)
        return found
