"""Reads loss and speed of a host's steps from the passes of its model."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class MeteredStep:
    """One optimizer step of one process."""

    loss: float
    """Loss of its passes in nats; NaN if unknown."""
    tokens: int
    seconds: float
    is_share: bool
    """Whether the loss is a share of the mean over a whole batch of known size."""


class StepMeter:
    """Sums up the forward passes of each optimizer step.

    A hook on the model keeps the loss of each training pass, without waiting for the device.
    """

    def __init__(self) -> None:
        self._losses: list[torch.Tensor] = []
        self._tokens: list[torch.Tensor | int] = []
        self._summed = False
        self._handle: Any = None
        self._began = time.perf_counter()
        self.is_on = True
        """Whether passes count; off while `sf` itself runs the model."""

    def attach(self, model: torch.nn.Module) -> None:
        """Watch the passes of a model."""
        self.detach()
        self._handle = model.register_forward_hook(self._note, with_kwargs=True)

    def detach(self) -> None:
        """Watch no longer."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def start(self) -> None:
        """Begin another step now."""
        self._losses.clear()
        self._tokens.clear()
        self._began = time.perf_counter()

    def take(self) -> MeteredStep:
        """Return what the passes of the step showed in this process."""
        loss = float("nan")
        if self._losses:
            total = torch.stack([one.float() for one in self._losses]).sum().item()
            loss = total if self._summed else total / len(self._losses)
        tokens = sum(int(count) for count in self._tokens)
        seconds = max(time.perf_counter() - self._began, 1e-9)
        return MeteredStep(loss, tokens, seconds, self._summed)

    def _note(self, module: torch.nn.Module, _: Any, given: dict[str, Any], output: Any) -> None:
        if not (self.is_on and module.training and torch.is_grad_enabled()):
            return
        loss = getattr(output, "loss", None)
        if isinstance(output, dict):
            loss = output.get("loss", loss)
        if isinstance(loss, torch.Tensor) and loss.numel() == 1:
            # A Trainer scales the tensor in place by the number of processes.
            self._losses.append(loss.detach().clone())
            # With it, each pass has its share of the whole batch's mean.
            self._summed = given.get("num_items_in_batch") is not None
        ids, mask = given.get("input_ids"), given.get("attention_mask")
        if isinstance(mask, torch.Tensor) and mask.dim() == 2:
            self._tokens.append(mask.sum())
        elif isinstance(ids, torch.Tensor):
            self._tokens.append(ids.numel())
