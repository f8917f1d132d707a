"""How a bank is shared between neighbor prompts and prompts of tasks that the run taught."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sf_tui.neighbors.cache import TAUGHT, TeacherCache
from sf_tui.neighbors.taught import add_taught, neighbors_beside
from sf_tui.tasks.encoding import NO_LOSS, Encoded


def cache_of(kind: str, count: int, first: int) -> TeacherCache:
    rows = [Encoded([first + at, 1], [NO_LOSS, 1]) for at in range(count)]
    empty = [np.zeros((1, 1), np.int32)] * count
    return TeacherCache(rows, [kind] * count, empty, [np.zeros((1, 1), np.float32)] * count, 5)


def test_taught_tasks_get_their_share_in_equal_parts() -> None:
    neighbors = cache_of("same_template", neighbors_beside(48, 0.25, 2), 0)
    assert len(neighbors) == 36
    few, many = cache_of(TAUGHT, 2, 100), cache_of(TAUGHT, 60, 1000)
    bank = add_taught(neighbors, [few, many], 0.25)
    assert Counter(bank.kinds) == {"same_template": 36, TAUGHT: 12}
    firsts = [row.input_ids[0] for row in bank.rows[36:]]
    assert Counter(firsts[:6]) == {100: 3, 101: 3}, "few prompts are repeated"
    assert firsts[6:] == [1000, 1010, 1020, 1030, 1040, 1050], "many are spread over the split"
    assert bank.built_tokens == 15
    assert len(neighbors) == 36, "what was given stays as it is"


def test_without_taught_tasks_every_prompt_is_a_neighbor() -> None:
    assert neighbors_beside(48, 0.25, 0) == 48
    neighbors = cache_of("same_template", 48, 0)
    bank = add_taught(neighbors, [], 0.25)
    assert bank.rows == neighbors.rows
