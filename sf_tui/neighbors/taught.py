"""Prompts of the tasks that a run taught, beside the neighbor prompts of a stage.

Neighbors are made from the new task's prompts alone. What the run's start model answers to them
holds what it knew, but says nothing of what the run taught since: that is held by the taught
tasks' own prompts, with the answers of the model that had just learned them. The rows' answers are
not read.
"""

from __future__ import annotations

from collections.abc import Sequence

from sf_tui.neighbors.cache import TeacherCache


def neighbors_beside(count: int, share: float, taught: int) -> int:
    """Return how many of a bank's prompts are neighbors.

    Args:
        count: size of the bank.
        share: share of the taught tasks' prompts.
        taught: number of taught tasks with prompts.
    """
    return max(count - int(share * count), 1) if taught else count


def add_taught(
    neighbors: TeacherCache, taught: Sequence[TeacherCache], share: float
) -> TeacherCache:
    """Return neighbors with the prompts of taught tasks, which are repeated up to their share.

    Args:
        neighbors: prompts and answers of the origin.
        taught: the same of each taught task; all get the same number of places.
        share: share of the whole that they get together, below 1.
    """
    present = [cache for cache in taught if len(cache)]
    mixed = neighbors.part(range(len(neighbors)))
    mixed.built_tokens = sum(cache.built_tokens for cache in (neighbors, *present))
    for cache in present:
        places = max(round(share / (1 - share) * len(neighbors) / len(present)), 1)
        # Prompts are ordered as in the train split: fewer places than prompts are spread over it.
        step = max(len(cache) / places, 1.0)
        mixed.extend(cache.part([int(at * step) % len(cache) for at in range(places)]))
    return mixed
