"""The divergence of a probe is the one that full distributions give, but for a part it names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sf_tui.engine.probing import ProbeResult
from sf_tui.neighbors.cache import TeacherCache
from sf_tui.neighbors.start_answers import StartAnswers
from sf_tui.tasks.encoding import NO_LOSS, Encoded

WORDS = 12


def row(*answer: int) -> Encoded:
    return Encoded([1, 2, *answer], [NO_LOSS, NO_LOSS, *answer])


def cache_of(rows: list[Encoded], logits: list[torch.Tensor], k: int) -> TeacherCache:
    found = TeacherCache(rows, ["slot"] * len(rows))
    for each in logits:
        chances, ids = torch.log_softmax(each, -1).topk(k)
        found.top_ids.append(ids.int().numpy())
        found.top_logprobs.append(chances.numpy())
    return found


@pytest.mark.parametrize("k", [WORDS, 4])
def test_divergence_misses_only_what_lies_within_the_other_tokens(k: int) -> None:
    torch.manual_seed(1)
    rows = [row(3, 4, 5), row(6), row(7, 8)]
    then = [torch.randn(each.answer_tokens, WORDS) for each in rows]
    # The middle row of the pass is of another task.
    answers = StartAnswers(cache_of([rows[2], rows[0]], [then[2], then[0]], k))
    now = [torch.randn(each.answer_tokens, WORDS) for each in rows]
    found = answers.divergences(rows, torch.cat(now))
    assert [answers.knows(each) for each in rows] == [True, False, True]
    for at, each in enumerate(rows):
        p, q = torch.softmax(then[at].double(), -1), torch.softmax(now[at].double(), -1)
        full = float((p * (p / q).log()).sum())
        missed = 0.0
        for kept, ours, theirs in zip(p.topk(k).indices, p, q, strict=True):
            others = torch.ones(WORDS, dtype=torch.bool)
            others[kept] = False
            if others.any():
                a, b = ours[others], theirs[others]
                missed += float((a * ((a / a.sum()) / (b / b.sum())).log()).sum())
        expected = full - missed if answers.knows(each) else 0.0
        assert float(found[at]) == pytest.approx(expected, abs=1e-5)
        assert missed > 0 or k == WORDS


def test_measure_is_per_token_and_only_of_the_start_models_answers() -> None:
    result = ProbeResult(
        exact=np.array([True, True, False]),
        first_token=np.array([True, True, True]),
        correct_tokens=np.array([2, 3, 0]),
        answer_tokens=np.array([2, 3, 1]),
        nll=np.zeros(3),
        divergence=np.array([0.2, 0.8, np.nan]),
    )
    assert result.measures([0, 1])["kl"] == pytest.approx(0.2)
    assert "kl" not in result.measures()
    assert "kl" not in result.measures([2])
