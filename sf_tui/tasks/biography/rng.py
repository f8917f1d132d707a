"""Random draws that are the same on every Python version.

Python only guarantees that `random.Random(seed).random()` returns the same numbers in every
version, not that `choice` or `shuffle` do, so everything here uses `random()` alone. Seeds are
texts, which Python hashes with SHA-512, never with `hash()`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def seeded(*parts: object) -> random.Random:
    """Return a stream of draws that is a pure function of the texts of `parts`."""
    return random.Random("/".join(str(part) for part in parts))


def pick(stream: random.Random, items: Sequence[T]) -> T:
    """Draw one of `items`."""
    return items[int(stream.random() * len(items))]


def shuffled(stream: random.Random, items: Sequence[T]) -> list[T]:
    """Return `items` in random order (Fisher-Yates)."""
    order = list(items)
    for last in range(len(order) - 1, 0, -1):
        other = int(stream.random() * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order
