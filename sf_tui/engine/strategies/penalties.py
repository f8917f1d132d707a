"""Penalties on the distance from a stage's start weights: l2-start and ewc.

Their gradients have a closed form and are added to the step's own without a graph. Frozen
parameters get none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from sf_tui.engine.batches import EncodedSource, collate
from sf_tui.engine.forward import AnswerForward
from sf_tui.engine.step import Loss
from sf_tui.engine.strategies.base import (
    Strategy,
    StrategyFacts,
    StrategyStage,
    StrategyState,
)
from sf_tui.errors import DataError
from sf_tui.vocabulary.sizes import counted
from sf_tui.vocabulary.strategies import EwcSettings, L2StartSettings

Tensors = dict[str, torch.Tensor]


class QuadraticPull:
    """The loss weight · Σ importance · (W − W_start)².

    Its gradient is 2 · weight · importance · (W − W_start).

    Args:
        parameters: by name; a parameter is skipped in steps in which it is frozen.
        start: W_start by the same names, on the parameters' device.
        weight: factor on the loss.
        importance: float32 by name, broadcast over the parameter; parameters without an entry are
            skipped. None uses 1 for all.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter],
        start: Mapping[str, torch.Tensor],
        weight: float,
        importance: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self._parameters = parameters
        self._start = start
        self._weight = weight
        self._importance = importance

    @torch.no_grad()
    def accumulate(self, step: int) -> tuple[float, int]:  # noqa: ARG002  the protocol's
        """Add the gradient to the parameters' gradients; return the value and 0 tokens."""
        sums = []
        for name, parameter in self._parameters.items():
            if not parameter.requires_grad:
                continue
            if self._importance is not None and name not in self._importance:
                continue
            moved = parameter.float() - self._start[name].float()
            pull = moved if self._importance is None else self._importance[name] * moved
            sums.append((pull * moved).sum())
            gradient = (2 * self._weight * pull).to(parameter.dtype)
            if parameter.grad is None:
                parameter.grad = gradient
            else:
                parameter.grad += gradient
        value = float(torch.stack(sums).sum()) if sums else 0.0
        return self._weight * value, 0


class _Penalty(Strategy):
    """A strategy that adds one loss and needs the start weights."""

    loss_name: str

    def __init__(self, stage: StrategyStage, settings: object) -> None:
        super().__init__(stage, settings)
        self._loss: Loss | None = None

    def losses(self) -> Mapping[str, Loss]:
        """Return the penalty; empty before `open`."""
        return {} if self._loss is None else {self.loss_name: self._loss}

    def _parameters(self) -> dict[str, torch.nn.Parameter]:
        layers = self.stage.layout.layers
        return {name: p for layer in layers for name, p in layer.parameters.items()}

    def _start(self) -> Tensors:
        """Return the start weights on the parameters' devices; uses memory for a model copy."""
        start = self.stage.start()
        return {
            name: tensor.to(layer.parameters[name].device)
            for layer in self.stage.layout.layers
            for name, tensor in start.tensors(layer.name)
        }


class L2Start(_Penalty):
    """Add strength · ‖W − W_start‖² (L2-SP); its gradient is 2 · strength · (W − W_start).

    Li et al. use α/2, so their α is twice this strength.
    """

    settings: L2StartSettings
    loss_name = "l2_start"

    def open(self, *, at_start: bool) -> None:  # noqa: ARG002  the interface's
        """Read the start weights."""
        if self._loss is None:
            self._loss = QuadraticPull(self._parameters(), self._start(), self.settings.strength)


class EwcFacts(StrategyFacts):
    """The facts that ewc stores in addition to its Fisher."""

    covered: list[str]
    """Tasks whose examples the Fisher covers."""


class Ewc(_Penalty):
    """Add strength/2 · Σ F (W − W_start)²; its gradient is strength · F · (W − W_start).

    F is the diagonal of the empirical Fisher: the mean over old examples of the squared gradient of
    each example's log-likelihood (all its answer tokens, with the labels of the data), computed one
    example at a time, without dropout, at the stage's start weights. F accumulates over tasks: for
    each task learned since the last update, F is multiplied by `decay` and the task's own F is
    added. A parameter that is frozen while F is computed has no F and is not penalized.
    """

    settings: EwcSettings
    loss_name = "ewc"
    facts_schema = EwcFacts

    def __init__(self, stage: StrategyStage, settings: EwcSettings) -> None:
        super().__init__(stage, settings)
        self.covered: list[str] = []
        """Tasks whose examples the Fisher covers."""
        self.fisher: Tensors = {}
        """Fisher by parameter name, float32."""

    def check_stage(self) -> None:
        """Raise DataError if an earlier task has no examples for the Fisher."""
        for task, source in self.stage.old.items():
            if not len(source):
                raise DataError(
                    f"stage '{self.stage.name}': strategy 'ewc' has no example of task '{task}': "
                    "it has no row left to train on",
                    "hold fewer of its rows out, or train with another strategy",
                )

    def take_over(self, carried: StrategyState) -> None:
        """Take over the Fisher of the previous stages."""
        self._set(carried)

    def open(self, *, at_start: bool) -> str | None:
        """Add the Fisher of newly learned tasks, and read the start weights."""
        fresh = [task for task in self.stage.old if task not in self.covered]
        taken = 0
        if fresh:
            if at_start:
                taken = self._cover(fresh)
            else:
                with self.stage.lend_start():
                    taken = self._cover(fresh)
            self._loss = None
        if self._loss is None:
            weight = self.settings.strength / 2
            self._loss = QuadraticPull(self._parameters(), self._start(), weight, self.fisher)
        if not fresh:
            return None
        return f"took the Fisher of {counted(taken, 'old example')} ({', '.join(fresh)})"

    def _cover(self, tasks: Sequence[str]) -> int:
        taken = 0
        fisher, covered = self.fisher, list(self.covered)
        for task in tasks:
            examples = self.stage.old_examples([task], self.settings.examples)
            own = self.fisher_of(examples)
            taken += len(examples)
            fisher = {
                name: self.settings.decay * fisher[name] + own[name]
                if name in fisher and name in own
                else own[name]
                if name in own
                else self.settings.decay * fisher[name]
                for name in [*fisher, *(name for name in own if name not in fisher)]
            }
            covered.append(task)
        # Assign last, so that a stop during the computation leaves the state unchanged.
        self.fisher, self.covered = fisher, covered
        return taken

    def fisher_of(self, examples: EncodedSource) -> Tensors:
        """Return the mean squared gradient of the examples' log-likelihoods, by parameter name.

        Args:
            examples: one or more examples.
        """
        stage = self.stage
        parameters = {n: p for n, p in self._parameters().items() if p.requires_grad}
        sums = {
            name: torch.zeros_like(parameter, dtype=torch.float32)
            for name, parameter in parameters.items()
        }
        forward = AnswerForward(stage.model)
        stage.model.eval()
        try:
            for index in range(len(examples)):
                stage.between()
                batch = collate([examples.encoded(index, 0)], stage.pad_id)
                with stage.compute.autocast():
                    logits, targets = forward(batch.to(stage.compute.device))
                stage.compute.backward(F.cross_entropy(logits, targets, reduction="sum"))
                for name, parameter in parameters.items():
                    if parameter.grad is not None:
                        sums[name] += parameter.grad.float().square()
                        parameter.grad = None
        finally:
            for parameter in parameters.values():
                parameter.grad = None
        return {name: total / len(examples) for name, total in sums.items()}

    def state(self) -> StrategyState:
        """Return the Fisher and the tasks that it covers."""
        return StrategyState({"covered": self.covered}, self.fisher)

    def restore(self, state: StrategyState | None) -> None:
        """Restore the Fisher of a checkpoint; without one, `open` computes it again."""
        self._set(state or StrategyState({"covered": []}))

    def carry(self) -> StrategyState | None:
        """Return the Fisher for later stages."""
        return self.state() if self.covered else None

    def _set(self, state: StrategyState) -> None:
        devices = {name: p.device for name, p in self._parameters().items()}
        self.covered = list(state.facts["covered"])
        self.fisher = {name: t.to(devices[name]) for name, t in state.tensors.items()}
        self._loss = None
