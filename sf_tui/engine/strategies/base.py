"""The interface of a strategy: the hooks that a stage calls, and the data available to them.

The hooks of the base class do nothing; a strategy overrides only those it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from sf_tui.engine.batches import EncodedSource, PooledSource, derive_seed
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.layout import Freezer, ModelLayout
from sf_tui.engine.step import Loss
from sf_tui.profile import TrainSettings
from sf_tui.tasks.encoding import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class StartTensors(Protocol):
    """A stage's start weights by name."""

    def tensors(self, layer: str) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield a layer's parameter names and tensors, in main memory."""
        ...


class StrategyFacts(BaseModel):
    """Schema of the facts that a strategy stores, checked before a resume; empty by default."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class StrategyState:
    """The state of a strategy in a checkpoint."""

    facts: dict[str, Any] = field(default_factory=dict)
    """JSON that matches the strategy's `facts_schema`."""
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class StrategyStage:
    """The parts of a stage that a strategy may use."""

    name: str
    seed: int
    """The run's seed; derive other seeds from it with `derive_seed`."""
    train: TrainSettings
    model: PreTrainedModel
    layout: ModelLayout
    freezer: Freezer
    compute: ComputeSetting
    pad_id: int
    source: EncodedSource
    """The training rows of the stage's own task."""
    old: Mapping[str, EncodedSource]
    """The training rows of each earlier task; empty unless a strategy of the profile declares the
    need `old_examples`."""
    start: Callable[[], StartTensors]
    """Opens the stage's start weights; available once its first checkpoint is written."""
    lend_start: Callable[[], AbstractContextManager[None]]
    """Loads the start weights into the model temporarily, then restores its own, bit for bit."""
    between: Callable[[], None]
    """Call this regularly during long work; it raises if the run must stop."""

    def old_examples(self, tasks: Sequence[str], count: int | None) -> PooledSource:
        """Return training examples of earlier tasks; the same in every stage of a run.

        Args:
            tasks: names of the tasks.
            count: largest number per task, sampled with the run's seed; None for all.
        """
        entries: list[tuple[EncodedSource, int]] = []
        for task in tasks:
            source = self.old[task]
            chosen = np.arange(len(source))
            if count is not None and count < len(source):
                random = np.random.default_rng(derive_seed(self.seed, "old examples", task))
                chosen = np.sort(random.permutation(len(source))[:count])
            entries += [(source, int(index)) for index in chosen]
        # A limited count is a memory of fixed texts; redrawn entries would be different texts.
        return PooledSource(entries, redraw=count is None)


class Strategy:
    """A training strategy of one stage.

    A stage calls `take_over` and `begin` when it starts, or `restore` when it resumes or rewinds,
    and then `open` once its first checkpoint exists. Step hooks are called only while the strategy
    is on.

    Args:
        stage: the stage.
        settings: the strategy's settings, as declared in `sf_tui.vocabulary.strategies`; None if
            it has none.

    Attributes:
        is_on: whether it is active in the steps; saved in checkpoints.
        old_rows: rows of each batch that are of earlier tasks.
    """

    facts_schema: ClassVar[type[StrategyFacts]] = StrategyFacts
    """Schema of the facts in `state`."""

    def __init__(self, stage: StrategyStage, settings: Any) -> None:
        self.stage = stage
        self.settings = settings
        self.is_on = False
        self.old_rows = 0

    def check_stage(self) -> None:
        """Raise SfError if this strategy can't train the stage; called before training starts."""

    def take_over(self, carried: StrategyState) -> None:
        """Receive the state carried over from the previous stage, whatever its strategy was."""

    def begin(self) -> None:
        """Prepare a new stage. Must be cheap: nothing is saved yet, so a kill loses this work."""

    def open(self, *, at_start: bool) -> str | None:  # noqa: ARG002  for subclasses
        """Prepare for steps, using only the profile, the state and the start weights.

        Args:
            at_start: whether the model has the stage's start weights.

        Returns:
            A description of the work done, for an alert; None if no alert is needed.
        """
        return None

    def losses(self) -> Mapping[str, Loss]:
        """Return the losses to add to the step's own, by their names in `step` events."""
        return {}

    def rows(self, step: int) -> Sequence[Encoded] | None:  # noqa: ARG002  for subclasses
        """Return the rows of a step's batch; None keeps the stage's own.

        Args:
            step: counted from 1; the rows must be a pure function of (seed, stage, step).
        """
        return None

    def before_update(self, step: int) -> None:
        """Modify the summed gradients, after the backward passes and before clipping."""

    def end(self) -> None:
        """Edit the weights after the last step, before the stage's last probe and checkpoint.

        The edit must depend only on the weights, the profile and the seed, because it is repeated
        after a kill.
        """

    def state(self) -> StrategyState:
        """Return the state to store in the next checkpoint."""
        return StrategyState()

    def restore(self, state: StrategyState | None) -> None:
        """Restore the state of a checkpoint; None if the checkpoint has none for this strategy."""

    def carry(self) -> StrategyState | None:
        """Return the state to carry into later stages; None for no state."""
        return None
