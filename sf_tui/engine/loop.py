"""The seam between what trains and what watches.

A `TrainingLoop` makes optimizer steps on one stage. Probes, drift, the danger window, rules,
commands, checkpoints and events only talk to this protocol, so the loop can be our own
(`sf_tui.engine.tuning.StageTuner`) or anyone else's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from sf_tui.engine.checkpoint import Checkpoint
from sf_tui.engine.step import Loss
from sf_tui.errors import SfError
from sf_tui.tasks.encoding import Encoded


class NonFiniteLossError(SfError):
    """Loss or gradient became NaN or infinite; the update was not made."""

    def __init__(
        self, step: int, loss: float, grad_norm: float, added: Mapping[str, float] | None = None
    ) -> None:
        others = "".join(f", {name} loss {value}" for name, value in (added or {}).items())
        super().__init__(
            f"step {step}: loss {loss}{others}, gradient norm {grad_norm}",
            "lower the learning rate: the update was not made",
        )
        self.step = step
        self.loss = loss
        self.grad_norm = grad_norm


@dataclass(frozen=True)
class StepOutcome:
    """What one optimizer step did."""

    loss: float
    """Mean over the answer tokens of the whole batch, in nats."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    tokens_per_second: float
    """Tokens without padding, those of added losses included."""
    added: Mapping[str, float] = field(default_factory=dict)
    """The value of each added loss by its name."""


class StepHooks:
    """What joins a loop's own step; this base adds nothing."""

    def losses(self) -> Mapping[str, Loss]:
        """Return the losses added to the step's own, by the name that `step` events use."""
        return {}

    def rows(self, step: int) -> Sequence[Encoded] | None:  # noqa: ARG002  for subclasses
        """Return the rows of a step's batch; None leaves the loop's own.

        Args:
            step: from 1; the rows must be a pure function of it and of the run's seed.
        """
        return None

    def before_update(self, step: int) -> None:
        """Change the summed gradients, after the backward passes and before clipping."""


class TrainingLoop(Protocol):
    """Trains one stage, a step at a time."""

    @property
    def model(self) -> torch.nn.Module:
        """The model that is trained, in place."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer over its parameters."""
        ...

    @property
    def step(self) -> int:
        """Optimizer steps done in this stage."""
        ...

    @property
    def total_steps(self) -> int:
        """Optimizer steps that the stage takes."""
        ...

    def refusal(self, what: str) -> str | None:
        """Return why the loop can't do an op or train with a strategy; None where it can.

        Args:
            what: the name of the op or the strategy.
        """
        ...

    def attach(self, hooks: StepHooks) -> None:
        """Join hooks to every step from now on; called once, before the first step.

        A loop that refuses strategies may ignore them.
        """
        ...

    def advance(self) -> StepOutcome:
        """Do one optimizer step.

        Raises:
            NonFiniteLossError: loss or gradient norm is not finite; weights are as before.
        """
        ...

    def save(
        self,
        path: Path,
        state: dict[str, Any],
        tensors: Mapping[str, Mapping[str, torch.Tensor]],
    ) -> int:
        """Write a checkpoint of this step and return its size in bytes.

        Args:
            path: its folder.
            state: JSON for the checkpoint's state.
            tensors: what strategies store, by strategy and name.

        Raises:
            RunError: it can't be written.
        """
        ...

    def rewind(self, checkpoint: Checkpoint) -> None:
        """Put weights, optimizer and step back as a checkpoint has them.

        Raises:
            RunError: the checkpoint is damaged or belongs to another model.
        """
        ...

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the scheduled learning rate by a factor from the next step on."""
        ...
