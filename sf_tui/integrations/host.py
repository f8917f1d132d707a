"""What `sf` knows of a training that another program runs, and the training as a `TrainingLoop`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sf_tui.engine.checkpoint import Checkpoint, save_checkpoint
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.loop import StepHooks, StepOutcome
from sf_tui.engine.ranks import ALONE
from sf_tui.tasks.encoding import Encoded
from sf_tui.vocabulary.ops import OPS
from sf_tui.vocabulary.strategies import STRATEGIES
from sf_tui.worker.rank_watch import RankWatch

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_STRATEGY = "seq"
"""The name for training as the host does; some other strategies are ops too."""


@dataclass
class Host:
    """A training that another program runs, as it begins."""

    name: str
    model: PreTrainedModel
    """The bare model: without wrappers for several processes or precision."""
    optimizer: torch.optim.Optimizer
    tokenizer: PreTrainedTokenizerBase
    step: int
    """Optimizer steps already done; more than 0 if it was resumed."""
    total_steps: int
    train: dict[str, Any]
    """Keys of `[train]` as the host sets them."""
    version: str | None = None
    command: Sequence[str] = ()
    output_dir: Path | None = None
    model_source: str = ""
    """Where its weights came from: a directory or a Hugging Face id; empty if unknown."""
    autocast: torch.dtype | None = None
    max_grad_norm: float = 0.0
    """Bound of the gradient norm; 0 = no clipping."""
    train_rows: Sequence[Encoded] = ()
    held_out_rows: Sequence[Encoded] = ()
    adapter: Mapping[str, Any] | None = None
    """The keys of `[adapter]`, if its start is the model without its adapter."""
    notes: Sequence[str] = ()
    """What the operator should know of it, for alerts."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Op to the reason why it can't be done in this training."""
    watch: RankWatch = field(default_factory=lambda: RankWatch(ALONE, None))
    """What its processes do."""
    layout: ModelLayout | None = None
    """Layers of a model of which this process holds shards only; None for a whole model."""


class _Device:
    """The part of an accelerator that passes need, without touching the host's own."""

    def __init__(self, device: torch.device, dtype: torch.dtype | None) -> None:
        self.device = device
        self._dtype = dtype
        names = {None: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}
        self.mixed_precision = names.get(dtype, str(dtype))

    def autocast(self) -> AbstractContextManager[Any]:
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()


def host_compute(host: Host) -> ComputeSetting:
    """Return device and precision of passes through a host's model."""
    device: Any = _Device(host.model.device, host.autocast)
    weights = next(
        (p.dtype for p in host.model.parameters() if p.requires_grad and p.is_floating_point()),
        torch.float32,
    )
    return ComputeSetting(device, weights)


class HostLoop:
    """A training that drives itself; it reports each step instead of being advanced.

    Attributes:
        step: optimizer steps done since the run began.
        total_steps: those of the whole run.
        hooks: what adds losses to its steps.
        is_sharded: whether this process holds a part of each parameter only.
    """

    def __init__(self, host: Host, layout: ModelLayout, *, first: int) -> None:
        """Wrap a host.

        Args:
            host: the host.
            layout: its model's layers.
            first: the host's step at which the run began.
        """
        self.model: torch.nn.Module = host.model
        self.optimizer = host.optimizer
        self.first = first
        self.step = host.step - first
        self.total_steps = host.total_steps - first
        self.hooks = StepHooks()
        self.is_sharded = host.layout is not None
        self._host = host
        self._layout = layout

    def refusal(self, what: str) -> str | None:
        """Return why the host can't do an op or train with a strategy; None if it can."""
        if what in STRATEGIES and what not in OPS and what != DEFAULT_STRATEGY:
            return f"{self._host.name} trains in its own way, so it can't train with '{what}'"
        return self._host.refusals.get(what)

    def attach(self, hooks: StepHooks) -> None:
        """Add the losses of these hooks to every step from now on."""
        self.hooks = hooks

    def advance(self) -> StepOutcome:
        """Never called: the host advances itself."""
        raise AssertionError("a host advances itself")

    def save(
        self,
        path: Path,
        state: dict[str, Any],
        tensors: Mapping[str, Mapping[str, torch.Tensor]],
    ) -> int:
        """Write the weights that train, without the optimizer, and return the size in bytes."""
        return save_checkpoint(path, self._layout, None, state, tensors)

    def rewind(self, checkpoint: Checkpoint) -> None:
        """Take over the step of a checkpoint; the host has loaded its own weights."""
        self.step = checkpoint.step

    def scale_learning_rate(self, factor: float) -> None:
        """Do nothing: the rate belongs to the host."""

    def add_gradients(self, max_grad_norm: float) -> dict[str, float]:
        """Add the gradients of the hooks' losses, after the host's backward pass and clipping.

        Args:
            max_grad_norm: bound of the norm of the sum; 0 = no clipping.

        Returns:
            The value of each loss, by name.
        """
        step = self.step + 1
        losses = self.hooks.losses()
        with torch.enable_grad():
            values = {name: loss.accumulate(step)[0] for name, loss in losses.items()}
        self.hooks.before_update(step)
        if losses and max_grad_norm > 0:
            trained = [p for p in self.model.parameters() if p.grad is not None]
            torch.nn.utils.clip_grad_norm_(trained, max_grad_norm)
        return values
