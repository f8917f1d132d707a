"""The interface of a strategy: the hooks that a stage calls, and what they may use.

Every hook of the base class does nothing, so that a strategy overrides only what it changes.
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
        """Yield a layer's tensors with the model's parameter names, in main memory."""
        ...


class StrategyFacts(BaseModel):
    """The facts that a strategy stores, for checking them before a resume; this one stores none."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class StrategyState:
    """What a strategy stores in each checkpoint."""

    facts: dict[str, Any] = field(default_factory=dict)
    """JSON, as the strategy's `facts_schema` has it."""
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class StrategyStage:
    """The stage, as a strategy may use it."""

    name: str
    seed: int
    """The run's; derive others from it with `derive_seed`."""
    train: TrainSettings
    model: PreTrainedModel
    layout: ModelLayout
    freezer: Freezer
    compute: ComputeSetting
    pad_id: int
    source: EncodedSource
    """The training rows of the stage's own task."""
    old: Mapping[str, EncodedSource]
    """The training rows of each earlier task; encoded only where a strategy of the profile
    declares the need `old_examples`, else empty."""
    start: Callable[[], StartTensors]
    """Opens the stage's start weights; only once the stage's first checkpoint is written."""
    lend_start: Callable[[], AbstractContextManager[None]]
    """Gives the model its start weights for a while; afterwards it has its own, bit for bit."""
    between: Callable[[], None]
    """To be called now and then in the middle of long work; raises when the run is to stop."""

    def old_examples(self, tasks: Sequence[str], count: int | None) -> PooledSource:
        """Return training examples of earlier tasks, the same in every stage of a run.

        Args:
            tasks: which tasks.
            count: how many of each at most, drawn by the run's seed; None: all of them.
        """
        entries: list[tuple[EncodedSource, int]] = []
        for task in tasks:
            source = self.old[task]
            chosen = np.arange(len(source))
            if count is not None and count < len(source):
                random = np.random.default_rng(derive_seed(self.seed, "old examples", task))
                chosen = np.sort(random.permutation(len(source))[:count])
            entries += [(source, int(index)) for index in chosen]
        # A limited number is a memory of texts; entries drawn again would be others.
        return PooledSource(entries, redraw=count is None)


class Strategy:
    """How a stage is trained.

    A stage calls `take_over` and `begin` when it starts, or `restore` when it resumes or rewinds;
    then `open`, as soon as its first checkpoint exists. The hooks of a step are called only while
    the strategy is on.

    Args:
        stage: the stage.
        settings: its own, as `sf_tui.vocabulary.strategies` declares them; None without a table.

    Attributes:
        is_on: whether it takes part in the steps; saved with the run.
    """

    facts_schema: ClassVar[type[StrategyFacts]] = StrategyFacts
    """What `state` stores as facts."""

    def __init__(self, stage: StrategyStage, settings: Any) -> None:
        self.stage = stage
        self.settings = settings
        self.is_on = False

    def check_stage(self) -> None:
        """Raise an SfError if the stage can't be trained so; called before anything is trained."""

    def take_over(self, carried: StrategyState) -> None:
        """Take what it carried out of the stage before, whatever strategy that one had."""

    def begin(self) -> None:
        """Prepare a new stage, cheaply: nothing is saved yet, so a kill undoes it."""

    def open(self, *, at_start: bool) -> str | None:  # noqa: ARG002  for subclasses
        """Get ready for steps, from the profile, the state and the start weights alone.

        Args:
            at_start: the model has the stage's start weights.

        Returns:
            What that took, for an alert; None for nothing worth one.
        """
        return None

    def losses(self) -> Mapping[str, Loss]:
        """Return the losses added to the step's own, by the name that `step` events use."""
        return {}

    def rows(self, step: int) -> Sequence[Encoded] | None:  # noqa: ARG002  for subclasses
        """Return the rows of a step's batch; None leaves the stage's own.

        Args:
            step: from 1; the rows must be a pure function of (seed, stage, step).
        """
        return None

    def before_update(self, step: int) -> None:
        """Change the summed gradients, after the backward passes and before clipping."""

    def end(self) -> None:
        """Edit the weights after the last step, before the stage's last probe and checkpoint.

        The edit must follow from the weights, the profile and the seed alone: after a kill it is
        done again.
        """

    def state(self) -> StrategyState:
        """Return what the next checkpoint must store of it."""
        return StrategyState()

    def restore(self, state: StrategyState | None) -> None:
        """Take up what a checkpoint stored; None: it knew nothing of this strategy."""

    def carry(self) -> StrategyState | None:
        """Return what later stages must know of it; None for nothing."""
        return None
