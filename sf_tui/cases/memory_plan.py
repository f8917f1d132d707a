"""What a rank's training takes of its device, part by part, and what would make it fit.

Weights, gradients and moments follow from the number of parameters and are exact; activations are
estimated from the longest row. Only what is exact is a reason to refuse a profile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from sf_tui.cases.data_facts import DataFacts
from sf_tui.cases.model_size import ModelSize
from sf_tui.engine.processes import count_processes
from sf_tui.profile import Profile, TrainSettings

# Bytes of activations per token and block, in units of the hidden size, at two bytes a number:
# Korthikanti et al. 2022 (arXiv 2205.05198), equation 2, without the attention matrix.
_ACTIVATIONS = 34.0
_CHECKPOINTED_ACTIVATIONS = 2.0
_PROCESS_BYTES = 500e6
"""Python, torch and transformers themselves."""
_MOMENTS = 2
_HALF = ("bfloat16", "float16")


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on each rank's device at the peak of a step.

    Attributes:
        ranks: number of processes.
        sharded: whether weights, gradients and moments are divided among them.
        parameters: of the model.
        trained: parameters that train.
        weights: all weights; with sharding this rank's part, and one whole block.
        gradients: of the weights that train.
        optimizer: AdamW's two moments.
        activations: of one pass, with its logits; an estimate.
        rows: examples of a pass.
        process: the program itself, if the device is the main memory.
        device_bytes: the device's memory; None if it can't be read.
        processes_a_device: how many of the ranks share it.
    """

    ranks: int
    sharded: bool
    parameters: int
    trained: int
    weights: float
    gradients: float
    optimizer: float
    activations: float
    rows: int
    process: float
    device_bytes: float | None = None
    processes_a_device: int = 1

    @property
    def exact(self) -> float:
        """What it takes at least."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> float:
        """What it takes with the estimate of the activations."""
        return self.exact + self.activations + self.process

    @property
    def device_total(self) -> float:
        """What all processes on one device take together."""
        return self.total * self.processes_a_device

    @property
    def fits(self) -> bool:
        """False if the exact part alone is more than the device has."""
        room = self.device_bytes
        return room is None or self.exact * self.processes_a_device <= room


def plan_memory(
    size: ModelSize,
    facts: DataFacts,
    train: TrainSettings,
    *,
    trained: int | None = None,
    dtype: str = "auto",
    ranks: int = 1,
    sharded: bool = False,
) -> MemoryPlan:
    """Return what one stage's training takes, without a look at the device.

    Args:
        size: the model's size.
        facts: the trained task's data.
        train: the stage's settings.
        trained: number of parameters that train; None for all of the model's.
        dtype: of the weights, as in the profile.
        ranks: number of processes.
        sharded: whether they divide the weights.
    """
    width = 2 if dtype in _HALF else 4
    moving = size.parameters if trained is None else trained
    held = size.parameters if moving == size.parameters else size.parameters + moving
    parts = ranks if sharded else 1
    weights = width * held / parts
    if parts > 1:
        weights += width * size.block_parameters / max(size.layers, 1)
    rows = min(train.micro_batch, max(-(-train.batch_size // ranks), 1), facts.train)
    factor = _CHECKPOINTED_ACTIVATIONS if train.gradient_checkpointing else _ACTIVATIONS
    # The source counts two bytes a number.
    activations = factor * width / 2 * size.hidden_size * max(size.layers, 1) * rows * facts.longest
    # Logits, their softmax and their gradient, in float32.
    activations += 3 * 4 * size.vocabulary * rows * facts.answer_tokens
    return MemoryPlan(
        ranks,
        sharded and ranks > 1,
        size.parameters,
        moving,
        weights,
        width * moving / parts,
        _MOMENTS * width * moving / parts,
        activations,
        rows,
        0.0 if torch.cuda.is_available() else _PROCESS_BYTES,
    )


def plan_of(
    profile: Profile, facts: dict[str, DataFacts], size: ModelSize, trained: int
) -> MemoryPlan | None:
    """Return the plan of a profile's largest stage on this machine; None without any data."""
    # A profile for a GPU box may be checked on a machine without any.
    ranks = max(count_processes(profile), 1)
    plans = [
        plan_memory(
            size,
            facts[spec.task],
            spec.train,
            trained=trained,
            dtype=profile.model.dtype,
            ranks=ranks,
            sharded=profile.launch.sharding == "fsdp2",
        )
        for spec in profile.stages()
        if spec.task in facts
    ]
    if not plans:
        return None
    largest = max(plans, key=lambda plan: plan.total)
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 1
    return replace(
        largest, device_bytes=device_memory(), processes_a_device=-(-ranks // max(devices, 1))
    )


def device_memory() -> float | None:
    """Return the size of the memory that will hold the model; None if it can't be read."""
    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[1])
    # Deferred: only plans need it here.
    import psutil

    return float(psutil.virtual_memory().total)


def remedies(profile: Profile, plan: MemoryPlan) -> Iterator[str]:
    """Yield the changes of a profile, each of which alone makes the exact part of a plan fit."""
    room = plan.device_bytes
    if room is None:
        return
    room /= plan.processes_a_device
    width = 2 if profile.model.dtype in _HALF else 4
    if width == 4 and plan.exact / 2 <= room:
        yield '[model] dtype = "bfloat16"'
    if profile.adapter is None and width * plan.parameters <= 0.9 * room:
        yield "an [adapter] table (LoRA)"
    # Processes that share a device share its memory, too.
    states = (2 + _MOMENTS) * width * plan.parameters
    needed = int(-(-states // (0.8 * room)))
    devices = torch.cuda.device_count()
    if profile.adapter is None and devices > 1:
        yield f'[launch] sharding = "fsdp2" on {max(needed, 2)} GPUs'
    elif profile.adapter is None and torch.cuda.is_available():
        yield f'[launch] sharding = "fsdp2" on {max(needed, 2)} such GPUs or more'
