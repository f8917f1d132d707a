"""How much of the change since the start a repair begins with.

On the straight line from the start weights to those of now the new task is lost at one end and the
old one at the other. A repair begins where the loss that it then lowers is lowest already.
"""

from __future__ import annotations

import math
from collections.abc import Callable

COARSE = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Shares of the change that are tried first."""

FINER = (0.1, 0.05)
"""How far beside the best of them the next ones lie."""


def find_keep(loss: Callable[[float], float]) -> float:
    """Return the share of the change, above 0 and up to 1, with the lowest loss of those tried.

    Source: linear interpolation between fine-tuned and original weights (WiSE-FT, Wortsman et al.
    2022, arXiv 2109.01903), the share chosen by the loss of a repair's own mixture.

    Args:
        loss: the loss with a share kept, in nats; it is asked nine times at most, and of two
            shares with the same one the larger is taken.
    """
    found: dict[float, float] = {}

    def ask(keep: float) -> None:
        value = loss(keep)
        # A model whose change is too much for its type has no loss.
        found[keep] = value if math.isfinite(value) else math.inf

    def best() -> float:
        return min(found, key=lambda keep: (found[keep], -keep))

    for keep in COARSE:
        ask(keep)

    for width in FINER:
        middle = best()
        for keep in (round(middle - width, 2), round(middle + width, 2)):
            if 0 < keep <= 1 and keep not in found:
                ask(keep)
    return best()
