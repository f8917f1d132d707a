"""How a stage is trained: the interface of a strategy, and the implementations that ship with sf.

What a strategy is called and needs is declared in `sf_tui.vocabulary.strategies`.
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
