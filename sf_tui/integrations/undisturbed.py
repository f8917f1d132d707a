"""Runs work of `sf` inside another program's training without a trace in it.

Restores the random state of Python, NumPy and torch, the mode of every module, and the end tokens
of the model's generation settings. Gradients and weights are the business of the code that runs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Restore random states and module modes after the block, even if it raises.

    Args:
        model: the model that the block may run or switch to another mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # Asking for the state of a GPU that was never used would initialize it.
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    generation: Any = getattr(model, "generation_config", None)
    ends = getattr(generation, "eos_token_id", None)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
        for module, mode in modes:
            # Setting it takes fifty times as long as reading it, and this runs at every step.
            if module.training is not mode:
                module.training = mode
        if generation is not None:
            generation.eos_token_id = ends
