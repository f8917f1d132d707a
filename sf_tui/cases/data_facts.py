"""What a task's data hold: rows, held-out rows, tokens; read as a run reads them, without a model.

Tokens are counted on a sample of the rows, so that a large file is looked at in seconds.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sf_tui.engine.prepare import BIOGRAPHY, read_task
from sf_tui.profile import Profile, TaskSettings
from sf_tui.profile.sources import is_missing
from sf_tui.tasks.encoded_examples import choose_metric, encode_all
from sf_tui.tasks.task import Example, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_ENCODED = 1000
"""Rows of each side of a task that are tokenized for the figures."""

CHARACTERS_A_TOKEN = 4
"""English text in the vocabularies of today's models; used where no tokenizer can be loaded."""


@dataclass(frozen=True)
class DataFacts:
    """One task's data in figures."""

    name: str
    data: str
    metric: str
    train: int
    """Rows to train on."""
    held_out: int
    """Rows that are scored and never trained on."""
    mean_tokens: float
    """Mean number of tokens in a row to train on; in a held-out row if there is none."""
    held_out_tokens: float
    """Mean number of tokens in a held-out row."""
    longest: int
    """Tokens of the longest row."""
    answer_tokens: float
    """Mean number of tokens that carry loss in a row."""
    too_long: int
    """Rows that are left out because they exceed the stage's limit, in the sample's proportion."""
    sampled: bool
    """Whether tokens were counted on a part of the rows."""
    guessed: bool
    """Whether tokens are estimated from characters."""

    @property
    def rows(self) -> int:
        """All rows."""
        return self.train + self.held_out

    @property
    def tokens(self) -> float:
        """Tokens of all rows."""
        return self.train * self.mean_tokens + self.held_out * self.held_out_tokens


def is_remote(settings: TaskSettings, base_dir: Path) -> bool:
    """Return whether a task's data are a data set's id, which may need a network."""
    data = settings.data
    return not (data.startswith(BIOGRAPHY) or (base_dir / data).exists() or is_missing(data))


def read_data_facts(
    profile: Profile,
    settings: TaskSettings,
    tokenizer: PreTrainedTokenizerBase | None,
    max_length: int | None,
) -> DataFacts:
    """Read a task's data and count it.

    Args:
        profile: the profile.
        settings: the task's table in it.
        tokenizer: the model's; None estimates tokens from characters.
        max_length: the longest row that the model takes; None if unknown.

    Raises:
        DataError: the data can't be used.
        ModelError: the tokenizer can't encode them.
    """
    task = read_task(profile, settings)
    train = [task.train.example(at, 0) for at in _sample(len(task.train))]
    held_out = [task.held_out[at] for at in _sample(len(task.held_out))]
    wanted = profile.stage_train(settings.name).max_length
    limit = min((one for one in (wanted, max_length) if one is not None), default=None)
    if tokenizer is None:
        return _from_characters(settings, task, train, held_out)
    sides = [
        encode_all(examples, tokenizer, None, settings.on_bad_row, settings.control_tokens).rows
        for examples in (train, held_out)
    ]
    lengths = [[len(row.input_ids) for row in side] for side in sides]
    fitting = [[n for n in side if limit is None or n <= limit] for side in lengths]
    answers = [row.answer_tokens for side in sides for row in side]
    seen = len(train) + len(held_out)
    dropped = sum(map(len, lengths)) - sum(map(len, fitting))
    rows = len(task.train) + len(task.held_out)
    return DataFacts(
        name=settings.name,
        data=settings.data,
        metric=choose_metric(sides[1]) if settings.metric == "auto" else settings.metric,
        train=len(task.train),
        held_out=len(task.held_out),
        mean_tokens=_mean(fitting[0] or fitting[1]),
        held_out_tokens=_mean(fitting[1]),
        longest=max((n for side in fitting for n in side), default=0),
        answer_tokens=_mean(answers),
        too_long=round(dropped * rows / seen),
        sampled=seen < rows,
        guessed=False,
    )


def _from_characters(
    settings: TaskSettings, task: Task, train: Sequence[Example], held_out: Sequence[Example]
) -> DataFacts:
    lengths = [[_tokens(example) for example in side] for side in (train, held_out)]
    return DataFacts(
        name=settings.name,
        data=settings.data,
        metric=settings.metric,
        train=len(task.train),
        held_out=len(task.held_out),
        mean_tokens=_mean(lengths[0] or lengths[1]),
        held_out_tokens=_mean(lengths[1]),
        longest=max(max(side, default=0) for side in lengths),
        answer_tokens=_mean([_answer_tokens(example) for example in (*train, *held_out)]),
        too_long=0,
        sampled=len(train) + len(held_out) < len(task.train) + len(task.held_out),
        guessed=True,
    )


def _tokens(example: Example) -> int:
    turns = sum(len(message.content) for message in example.messages)
    characters = len(example.prompt) + len(example.completion) + turns
    return characters // CHARACTERS_A_TOKEN + 1


def _answer_tokens(example: Example) -> int:
    answer = example.answer
    texts = [answer] if isinstance(answer, str) else answer
    return sum(map(len, texts)) // CHARACTERS_A_TOKEN + 1


def _sample(rows: int) -> list[int]:
    """Return at most `MOST_ENCODED` indices, evenly spread over all rows."""
    count = min(rows, MOST_ENCODED)
    return [at * rows // count for at in range(count)] if count else []


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0
