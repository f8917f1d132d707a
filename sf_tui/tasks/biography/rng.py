"""Random draws that are the same on every Python.

Python promises only that `random.Random(seed).random()` gives the same numbers in every version,
not that `choice` or `shuffle` use them alike; so everything here is built on `random()` alone.
Seeds are texts, which Python hashes with SHA-512, never with `hash()`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def seeded(*parts: object) -> random.Random:
    """Return a stream of draws that is a pure function of `parts`, told apart by their texts."""
    return random.Random("/".join(str(part) for part in parts))


def pick(stream: random.Random, items: Sequence[T]) -> T:
    """Draw one of `items`."""
    return items[int(stream.random() * len(items))]


def shuffled(stream: random.Random, items: Sequence[T]) -> list[T]:
    """Return `items` in a drawn order (Fisher-Yates)."""
    order = list(items)
    for last in range(len(order) - 1, 0, -1):
        other = int(stream.random() * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order
