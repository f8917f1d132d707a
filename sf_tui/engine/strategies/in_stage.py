"""The strategies of one stage: the profile's own, those switched on since, those carried over.

Finds implementations by the strategies' declarations and knows none of them by name.
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
"""What strategies carry from stage to stage, by name."""


def build_strategy(name: str, stage: StrategyStage, settings: StrategySettings | None) -> Strategy:
    """Return a strategy for a stage, its implementation imported."""
    module, _, attribute = strategy_declared(name).implementation.partition(":")
    strategy: Strategy = getattr(import_module(module), attribute)(stage, settings)
    return strategy


class StageStrategies(StepHooks):
    """The strategies that one stage knows, in the order in which they came.

    Args:
        stage: the stage.
        own: the strategy that the profile trains the stage with.
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
        """Return a strategy, built where the stage doesn't know it yet."""
        if name not in self._known:
            self._known[name] = build_strategy(name, self._stage, self._settings(name))
        return self._known[name]

    def begin(self, carried: Carried) -> None:
        """Begin a new stage with the profile's strategy and what others carried over."""
        own = self.get(self._own)
        own.is_on = True
        own.begin()
        for name, state in carried.items():
            self.get(name).take_over(state)

    def open(self, *, at_start: bool) -> list[tuple[str, str]]:
        """Get every strategy that is on ready for steps.

        Returns:
            Name and words of each for which that took something worth an alert.
        """
        took = [(name, one.open(at_start=at_start)) for name, one in self._on()]
        return [(name, words) for name, words in took if words]

    def switch_on(self, name: str) -> str | None:
        """Switch a strategy on between two steps; return what getting it ready took.

        Raises:
            SfError: it can't be got ready; it is off as before.
        """
        strategy = self.get(name)
        strategy.check_stage()
        strategy.begin()
        took = strategy.open(at_start=False)
        if not strategy.is_on:
            # The order in which losses are summed is that of switching on, after a resume too.
            self._known[name] = self._known.pop(name)
        strategy.is_on = True
        return took

    def switch_off(self, name: str) -> None:
        """Switch a strategy off from the next step on; it keeps what it holds."""
        self.get(name).is_on = False

    def losses(self) -> Mapping[str, Loss]:
        """Return the added losses of every strategy that is on."""
        return {name: loss for _, one in self._on() for name, loss in one.losses().items()}

    def rows(self, step: int) -> Sequence[Encoded] | None:
        """Return the rows of a step's batch, as the first strategy that chooses any has them."""
        for _, strategy in self._on():
            rows = strategy.rows(step)
            if rows is not None:
                return rows
        return None

    def before_update(self, step: int) -> None:
        """Let every strategy that is on change the gradients, in order."""
        for _, strategy in self._on():
            strategy.before_update(step)

    def end(self) -> None:
        """Let every strategy that is on edit the weights after the last step."""
        for _, strategy in self._on():
            strategy.end()

    def stored(self) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
        """Return facts (JSON) and tensors of every strategy for a checkpoint, by name."""
        states = {name: one.state() for name, one in self._known.items()}
        facts = {
            name: {"on": self._known[name].is_on, "facts": state.facts}
            for name, state in states.items()
        }
        return facts, {name: state.tensors for name, state in states.items() if state.tensors}

    def problem(self, facts: Mapping[str, Any]) -> str | None:
        """Return what is wrong with the facts of a checkpoint; None where all is well."""
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
        """Take up what a checkpoint stored; `open` must follow.

        Args:
            facts: as `stored` gave them.
            tensors: reads a strategy's tensors; empty for one that stored none.
        """
        order = [*facts, *(name for name in self._known if name not in facts)]
        # As the checkpoint has it: losses are summed in this order.
        self._known = {name: self.get(name) for name in order}
        for name, strategy in self._known.items():
            kept = facts.get(name)
            strategy.is_on = kept is not None and kept["on"]
            strategy.restore(StrategyState(kept["facts"], tensors(name)) if kept else None)

    def carried(self) -> Carried:
        """Return what later stages must know, by strategy."""
        found = {name: one.carry() for name, one in self._known.items()}
        return {name: state for name, state in found.items() if state is not None}

    def _on(self) -> list[tuple[str, Strategy]]:
        return [(name, one) for name, one in self._known.items() if one.is_on]
