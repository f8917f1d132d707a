"""Made-up outcomes of a recovery test, for the tests of this folder."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_tui.diagnosis.rules import ArmResult


def right(count: int, examples: int) -> NDArray[np.bool_]:
    """Return outcomes whose first `count` are right."""
    return np.arange(examples) < count


def make_arm(recovered: Any, name: str = "neighbors", **figures: Any) -> ArmResult:
    """Return an arm whose control stays at the floor, but for the figures given."""
    plain: dict[str, Any] = {
        "selection_accuracy": 0.5,
        "control": 0.02,
        "control_examples": 50,
        "floor": 0.03,
        "steps": 100,
        "seconds": 12.5,
        "tokens": 40_000,
        "learning_rate": 2e-4,
    }
    return ArmResult(name=name, recovered=recovered, **{**plain, **figures})
