"""Device and precision of a model: accelerate picks the device, the profile sets the dtype."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sf_tui.engine.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from accelerate import Accelerator

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


_FIRST_WITH_TF32 = (8, 0)
"""Ampere's compute capability."""


@dataclass(frozen=True)
class ComputeSetting:
    """Device and precision of a run."""

    accelerator: Accelerator
    weights_dtype: torch.dtype
    """Dtype of the stored weights, and therefore of the optimizer's moments."""
    in_step: Ranks = ALONE
    """The processes that make each forward pass together. What decides on further passes must be
    the same in all of them to the last bit, which two devices don't promise: rank 0's counts."""
    tf32: bool = False
    """Whether the inputs of float32 products are rounded to TF32."""

    @property
    def device(self) -> torch.device:
        """The device that holds the model."""
        return self.accelerator.device

    @property
    def precision(self) -> str:
        """A description, as in `float32`, `bfloat16` or `float32 weights, bf16 autocast`."""
        name = str(self.weights_dtype).removeprefix("torch.")
        mixed = self.accelerator.mixed_precision
        parts = [name if mixed == "no" else f"{name} weights, {mixed} autocast"]
        return ", ".join([*parts, "TF32 products"] if self.tf32 else parts)

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context in which forward passes run."""
        return self.accelerator.autocast()

    def backward(self, loss: torch.Tensor) -> None:
        """Run the backward pass of a loss."""
        self.accelerator.backward(loss)


def choose_compute(dtype: str, threads: int | None, *, tf32: bool = False) -> ComputeSetting:
    """Return the available device and the precision that the profile's `dtype` selects on it.

    Args:
        dtype: `auto` (fp32 weights, with bf16 autocast on a GPU that supports it), or the dtype of
            the weights: `float32`, `bfloat16` or `float16`.
        threads: CPU threads; None uses the default of torch and OMP_NUM_THREADS.
        tf32: let the process round the inputs of float32 products to TF32, on a GPU that has it.
    """
    from accelerate import Accelerator

    if threads is not None:
        torch.set_num_threads(threads)
    on_gpu = torch.cuda.is_available()
    tf32 = tf32 and on_gpu and torch.cuda.get_device_capability() >= _FIRST_WITH_TF32
    if tf32:
        # Torch has no switch narrower than the process. Never set for a CPU, where "high" may mean
        # formats other than TF32.
        torch.set_float32_matmul_precision("high")
    mixed = dtype == "auto" and on_gpu and torch.cuda.is_bf16_supported()
    accelerator = Accelerator(cpu=not on_gpu, mixed_precision="bf16" if mixed else "no")
    return ComputeSetting(accelerator, _DTYPES.get(dtype, torch.float32), tf32=tf32)
