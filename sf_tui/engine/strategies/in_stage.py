"""The strategies of one stage: the profile's, those switched on later, and those carried over.

Finds implementations through the strategies' declarations and knows none of them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from pydantic import ValidationError

from sf_tui.engine.loop import StepHooks
from sf_tui.engine.step import Loss
from sf_tui.engine.strategies.base import Strategy, StrategyStage, StrategyState
from sf_tui.tasks.encoding import Encoded
from sf_tui.vocabulary.strategies import STRATEGIES, StrategySettings, strategy_declared

Carried = dict[str, StrategyState]
"""State that strategies carry from stage to stage, by name."""


def build_strategy(name: str, stage: StrategyStage, settings: StrategySettings | None) -> Strategy:
    """Import the implementation of a strategy and build it for a stage."""
    module, _, attribute = strategy_declared(name).implementation.partition(":")
    strategy: Strategy = getattr(import_module(module), attribute)(stage, settings)
    return strategy


class StageStrategies(StepHooks):
    """The strategies of one stage, in the order in which they were added.

    Args:
        stage: the stage.
        own: name of the stage's strategy in the profile.
        settings: returns a strategy's settings in this stage.
    """

    def __init__(
        self,
        stage: StrategyStage,
        own: str,
        settings: Callable[[str], StrategySettings | None],
    ) -> None:
        self._stage = stage
        self._own = own
        self._settings = settings
        self._known: dict[str, Strategy] = {}

    def get(self, name: str) -> Strategy:
        """Return a strategy, building it on first use."""
        if name not in self._known:
            self._known[name] = build_strategy(name, self._stage, self._settings(name))
        return self._known[name]

    def begin(self, carried: Carried) -> None:
        """Begin a new stage with the profile's strategy and the carried state of others."""
        own = self.get(self._own)
        own.is_on = True
        own.begin()
        for name, state in carried.items():
            self.get(name).take_over(state)

    def open(self, *, at_start: bool) -> list[tuple[str, str]]:
        """Prepare every active strategy for steps.

        Returns:
            (name, description of the work) of each strategy whose preparation deserves an alert.
        """
        took = [(name, one.open(at_start=at_start)) for name, one in self._on()]
        return [(name, words) for name, words in took if words]

    def switch_on(self, name: str) -> str | None:
        """Switch a strategy on between two steps, and return a description of its preparation.

        Raises:
            SfError: the strategy can't be prepared; it stays off.
        """
        strategy = self.get(name)
        strategy.check_stage()
        strategy.begin()
        took = strategy.open(at_start=False)
        if not strategy.is_on:
            # Losses are summed in the order of switching on, also after a resume.
            self._known[name] = self._known.pop(name)
        strategy.is_on = True
        return took

    def switch_off(self, name: str) -> None:
        """Switch a strategy off, starting with the next step; it keeps its state."""
        self.get(name).is_on = False

    def losses(self) -> Mapping[str, Loss]:
        """Return the added losses of all active strategies."""
        return {name: loss for _, one in self._on() for name, loss in one.losses().items()}

    @property
    def old_rows(self) -> int:
        """Rows of each batch that are of earlier tasks."""
        return next((one.old_rows for _, one in self._on() if one.old_rows), 0)

    def rows(self, step: int) -> Sequence[Encoded] | None:
        """Return the rows of a step's batch from the first strategy that chooses them."""
        for _, strategy in self._on():
            rows = strategy.rows(step)
            if rows is not None:
                return rows
        return None

    def before_update(self, step: int) -> None:
        """Let every active strategy modify the gradients, in order."""
        for _, strategy in self._on():
            strategy.before_update(step)

    def end(self) -> None:
        """Let every active strategy edit the weights after the last step."""
        for _, strategy in self._on():
            strategy.end()

    def stored(self) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
        """Return the facts (JSON) and tensors of every strategy for a checkpoint, by name."""
        states = {name: one.state() for name, one in self._known.items()}
        facts = {
            name: {"on": self._known[name].is_on, "facts": state.facts}
            for name, state in states.items()
        }
        return facts, {name: state.tensors for name, state in states.items() if state.tensors}

    def problem(self, facts: Mapping[str, Any]) -> str | None:
        """Describe what is wrong with the facts of a checkpoint; None if they are valid."""
        for name, kept in facts.items():
            if name not in STRATEGIES:
                return f"strategies names '{name}', a strategy that there is not"
            try:
                self.get(name).facts_schema.model_validate(kept["facts"])
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join(map(str, first["loc"]))
                return f"strategies.{name}.{key}: {first['msg'].lower()}"
        return None

    def restore(
        self, facts: Mapping[str, Any], tensors: Callable[[str], dict[str, torch.Tensor]]
    ) -> None:
        """Restore the state of a checkpoint; the caller must then call `open`.

        Args:
            facts: the facts returned by `stored`.
            tensors: reads a strategy's tensors; returns an empty dict if it stored none.
        """
        order = [*facts, *(name for name in self._known if name not in facts)]
        # Keep the checkpoint's order: losses are summed in this order.
        self._known = {name: self.get(name) for name in order}
        for name, strategy in self._known.items():
            kept = facts.get(name)
            strategy.is_on = kept is not None and kept["on"]
            strategy.restore(StrategyState(kept["facts"], tensors(name)) if kept else None)

    def carried(self) -> Carried:
        """Return the state to carry into later stages, by strategy."""
        found = {name: one.carry() for name, one in self._known.items()}
        return {name: state for name, state in found.items() if state is not None}

    def _on(self) -> list[tuple[str, Strategy]]:
        return [(name, one) for name, one in self._known.items() if one.is_on]
