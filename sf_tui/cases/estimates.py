"""What a run will cost: steps, epochs, tokens, time, memory and disk, from figures alone.

Time and memory are estimates, right within a factor of about two. Trains nothing; the machine's
speed is measured by multiplying matrices for a tenth of a second.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from sf_tui.cases.data_facts import DataFacts
from sf_tui.cases.memory_plan import MemoryPlan, plan_of
from sf_tui.cases.model_size import ModelSize
from sf_tui.engine.adapters.files import inspect_adapter
from sf_tui.profile import Profile, StageSpec
from sf_tui.profile.adapter_schema import ALL_LINEAR

CHECKPOINT_BYTES_A_PARAMETER = 12
"""AdamW in float32: the weights and two moments, four bytes each."""
_MODEL_BYTES_A_PARAMETER = 4
_MATRICES = 7
"""Linear modules of a block: query, key, value, output, gate, up, down."""

# A training step reaches this share of the speed of plain matrix products.
_UTILIZATION = 0.5
# AdamW, gradient norm and clipping read and write about this many bytes per parameter.
_UPDATE_BYTES_A_PARAMETER = 40
_BANDWIDTH = {"cpu": 8e9, "cuda": 1e12}
# Python's part of a forward and backward pass, in seconds per block.
_PASS_S_A_BLOCK = {"cpu": 1.5e-3, "cuda": 1.5e-3}
_START_S = 8.0
_FLOPS_A_PARAMETER_AND_TOKEN = 6
_MEASURED_S = 0.1


@dataclass(frozen=True)
class StageEstimate:
    """One stage in figures."""

    name: str
    task: str
    steps: int
    epochs: float
    tokens: float
    """Trained tokens, padding left out."""
    seconds: float | None
    """Wall time with probes; None if the model's size is unknown."""


@dataclass(frozen=True)
class RunEstimate:
    """A whole run in figures; sizes in bytes. None where the model's size is unknown."""

    stages: tuple[StageEstimate, ...]
    seconds: float | None
    memory: float | None
    """Of the processes that share a device."""
    memory_available: float | None
    disk: float | None
    plan: MemoryPlan | None = None
    """The parts of `memory`."""


def trained_parameters(profile: Profile, size: ModelSize) -> int:
    """Return about how many parameters a run trains: the model's, or those of its adapter.

    A block is taken for seven matrices of the model's width on one side, as in Llama.
    """
    adapter = profile.adapter
    if adapter is None:
        return size.parameters
    if adapter.source is not None:
        files = inspect_adapter(Path(adapter.source))
        return sum(header.elements for header in files.tensors.values())
    sides = size.block_parameters / size.hidden_size + _MATRICES * size.hidden_size * size.layers
    share = 1.0
    if adapter.targets != ALL_LINEAR:
        share = min(len(adapter.targets) / _MATRICES, 1.0)
    stages = len(profile.stages()) if adapter.per_stage == "new" else 1
    return round(adapter.r * sides * share * stages)


def checkpoint_bytes(profile: Profile, parameters: int) -> int:
    """Return the most bytes that a run's checkpoints take at one time.

    Args:
        profile: the profile.
        parameters: number of parameters that are stored.
    """
    kept = profile.checkpoint
    count = kept.keep_last + kept.keep_best + 1 + 2 * len(profile.stages())
    return count * CHECKPOINT_BYTES_A_PARAMETER * parameters


def estimate_run(
    profile: Profile, facts: dict[str, DataFacts], size: ModelSize | None
) -> RunEstimate:
    """Estimate a run; stages of tasks without facts are left out.

    Args:
        profile: the profile.
        facts: the tasks' data by name.
        size: the model's size, if known.
    """
    speed = _Speed.measured(profile) if size is not None else None
    stages = tuple(
        _estimate_stage(profile, spec, facts, size, speed)
        for spec in profile.stages()
        if spec.task in facts
    )
    if size is None or not stages:
        return RunEstimate(stages, None, None, None, None)
    trained = trained_parameters(profile, size)
    plan = plan_of(profile, facts, size, trained)
    memory = plan.device_total if plan is not None else None
    seconds = _START_S + sum(stage.seconds or 0.0 for stage in stages)
    disk = checkpoint_bytes(profile, trained) + _MODEL_BYTES_A_PARAMETER * trained
    return RunEstimate(stages, seconds, memory, memory_available(), disk, plan)


def memory_available() -> float | None:
    """Return the free bytes of the device that will train; None if they can't be read."""
    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0])
    # Deferred: only estimates need it here.
    import psutil

    return float(psutil.virtual_memory().available)


def _estimate_stage(
    profile: Profile,
    spec: StageSpec,
    facts: dict[str, DataFacts],
    size: ModelSize | None,
    speed: _Speed | None,
) -> StageEstimate:
    own, train = facts[spec.task], spec.train
    steps = train.total_steps(own.train)
    tokens = steps * train.batch_size * own.mean_tokens
    seconds = None
    if size is not None and speed is not None:
        step_s = speed.step_s(size, own, spec, trained_parameters(profile, size))
        window = min(profile.window.steps, steps)
        probes = profile.probe.budget_in_window * window + profile.probe.budget * (steps - window)
        # The first and the last probe score every held-out row, at a third of a trained token.
        scored = 2 * sum(one.held_out * one.held_out_tokens for one in facts.values()) / 3
        a_token = step_s / (train.batch_size * max(own.mean_tokens, 1))
        seconds = step_s * (steps + probes) + scored * a_token
    return StageEstimate(
        spec.name,
        spec.task,
        steps,
        steps * train.batch_size / max(own.train, 1),
        tokens,
        seconds,
    )


@dataclass(frozen=True)
class _Speed:
    """How fast this machine's device multiplies."""

    device: str
    flops: float
    """Operations a second in a matrix product."""

    @classmethod
    def measured(cls, profile: Profile) -> _Speed:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        threads = torch.get_num_threads()
        if profile.train.threads is not None:
            torch.set_num_threads(profile.train.threads)
        try:
            width = 4096 if device == "cuda" else 256
            bf16 = device == "cuda" and profile.model.dtype != "float32"
            dtype = torch.bfloat16 if bf16 else torch.float32
            square = torch.ones(width, width, device=device, dtype=dtype)
            _multiply(square)
            began, done = time.monotonic(), 0
            while time.monotonic() - began < _MEASURED_S:
                _multiply(square)
                done += 1
            return cls(device, 2 * width**3 * done / (time.monotonic() - began))
        finally:
            torch.set_num_threads(threads)

    def step_s(self, size: ModelSize, facts: DataFacts, spec: StageSpec, trained: int) -> float:
        train = spec.train
        tokens = train.batch_size * facts.mean_tokens
        head = size.vocabulary * size.hidden_size * train.batch_size * facts.answer_tokens
        # The weights of a base get no gradient: two of the three products are left.
        a_parameter = _FLOPS_A_PARAMETER_AND_TOKEN * (1 if trained >= size.parameters else 2 / 3)
        work = a_parameter * (size.block_parameters * tokens + head)
        if train.gradient_checkpointing:
            work *= 4 / 3
        passes = -(-train.batch_size // train.micro_batch)
        return (
            work / (self.flops * _UTILIZATION)
            + passes * (size.layers + 2) * _PASS_S_A_BLOCK[self.device]
            + trained * _UPDATE_BYTES_A_PARAMETER / _BANDWIDTH[self.device]
        )


def _multiply(square: torch.Tensor) -> None:
    square @ square
    if square.is_cuda:
        torch.cuda.synchronize()
