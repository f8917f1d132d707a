"""A task's own prompts, read from its train split: what neighbors are made beside.

Knows train splits as tokens and nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sf_tui.engine.batches import EncodedSource
from sf_tui.neighbors.anatomy import Tokens, prompts_of
from sf_tui.tasks.encoding import Encoded

MOST_SAMPLED = 2000
"""Rows that a sample is taken from: enough to tell slot and frame apart."""


@dataclass(frozen=True)
class PromptSample:
    """Some of a task's prompts, spread evenly over its train split."""

    prompts: list[Tokens]
    """Each once; none where the task's rows ask nothing."""
    longest_answer: int
    """In tokens, the end token included."""


def sample_prompts(source: EncodedSource) -> PromptSample:
    """Return prompts from up to 2,000 rows of a train split; a drawn one as its first epoch reads.

    Args:
        source: the train split.
    """
    rows = list(_rows(source, MOST_SAMPLED))
    longest = max((row.answer_tokens for row in rows), default=0)
    return PromptSample(prompts_of(rows), longest)


def every_prompt(source: EncodedSource) -> list[Tokens]:
    """Return all prompts of a train split, or the sampled ones where every epoch draws anew."""
    most = MOST_SAMPLED if source.lengths is None else len(source)
    return prompts_of(_rows(source, most))


def _rows(source: EncodedSource, most: int) -> Iterator[Encoded]:
    count = len(source)
    taken = min(count, most)
    for place in range(taken):
        yield source.encoded(place * count // taken, 0)
