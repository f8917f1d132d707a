"""Whether a device has room for a recovery test beside a training.

Weights, gradients and moments of the test are exact. What its passes take is estimated by what
those of the training have taken so far; in main memory it is small beside the process itself.
"""

from __future__ import annotations

import psutil
import torch

from sf_tui.engine.layout import ModelLayout
from sf_tui.errors import RunError
from sf_tui.vocabulary.sizes import format_bytes

_TRAINED_COPIES = 3
"""Gradients and two moments."""
_SNAPSHOTS = 3
"""Weights that a test keeps: those to test, and an arm's best and last ones. On a GPU they are in
main memory."""
_PROCESS_BYTES = 600_000_000
"""Python, torch and transformers."""


def test_bytes(model: torch.nn.Module, layout: ModelLayout, device: torch.device) -> int:
    """Return what a test of a model takes of a device.

    Args:
        model: the model, on the training's device.
        layout: its layers, which the test trains.
        device: the test's device.
    """
    whole = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(
        p.numel() * p.element_size() for layer in layout.layers for p in layer.parameters.values()
    )
    if device.type == "cpu":
        return whole + (_TRAINED_COPIES + _SNAPSHOTS) * trained + _PROCESS_BYTES
    passes = 0
    if next(model.parameters()).is_cuda:
        passes = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
    return whole + _TRAINED_COPIES * trained + passes


def free_bytes(device: torch.device, own: torch.device) -> int | None:
    """Return the free memory of a device; None if finding out would claim some of it.

    Args:
        device: the device.
        own: the training's device.
    """
    if device.type == "cpu":
        return int(psutil.virtual_memory().available)
    # "cuda" and "cuda:0" are one device.
    if (device.type, device.index or 0) == (own.type, own.index or 0):
        return int(torch.cuda.mem_get_info(device)[0])
    return None


def check_room(needed: int, free: int, device: str) -> None:
    """Refuse a test that a device has no room for.

    Raises:
        RunError: it needs more than is free.
    """
    if needed > free:
        raise RunError(
            f"no room for a test beside the training on {device}: it takes "
            f"{format_bytes(needed)}, and {format_bytes(free)} are free",
            "name another [diagnose] device, or take beside = false: training then waits for the "
            "test",
        )
