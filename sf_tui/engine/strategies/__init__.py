"""Training strategies: the interface, and the implementations that ship with sf.

`sf_tui.vocabulary.strategies` declares their names, settings and requirements.
"""

from __future__ import annotations

from sf_tui.engine.strategies.base import (
    StartTensors,
    Strategy,
    StrategyFacts,
    StrategyStage,
    StrategyState,
)
from sf_tui.engine.strategies.in_stage import StageStrategies

__all__ = [
    "StageStrategies",
    "StartTensors",
    "Strategy",
    "StrategyFacts",
    "StrategyStage",
    "StrategyState",
]
