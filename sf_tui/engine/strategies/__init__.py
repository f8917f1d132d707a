"""How a stage is trained: one module a strategy, one interface.

The loop knows only this interface; which strategy a name stands for is told by `strategy_named`.
"""

from __future__ import annotations

from sf_tui.engine.strategies.anchor import Anchor
from sf_tui.engine.strategies.base import StageContext, Strategy
from sf_tui.engine.strategies.freeze import Freeze
from sf_tui.engine.strategies.seq import Seq

__all__ = ["StageContext", "Strategy", "strategy_named"]

_STRATEGIES: tuple[type[Strategy], ...] = (Seq, Freeze, Anchor)


def strategy_named(name: str) -> Strategy:
    """Return the strategy of a name that the profile's schema allows."""
    return next(strategy for strategy in _STRATEGIES if strategy.name == name)()
