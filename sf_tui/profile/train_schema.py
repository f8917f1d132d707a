"""The tables that say how a stage is trained: `[train]`, `[train.freeze]` and `[replay_stage]`."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sf_tui.profile.names import Schedule, Strategy
from sf_tui.profile.values import (
    Betas,
    Count,
    CountOrZero,
    Epochs,
    Factor,
    Name,
    NotNegative,
    PlainTable,
    Positive,
    RowCount,
    Share,
    StepCount,
    StepCountOrZero,
    ThreadCount,
)

DEFAULT_STEPS = 300


class StrictTable(BaseModel):
    """A table that takes no key it doesn't know and no value of another type."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class FreezeSettings(StrictTable):
    """`[train.freeze]`: what strategy freeze keeps as it is."""

    layers: CountOrZero = Field(description="how many blocks from the bottom are frozen")
    embeddings: bool = Field(default=True, description="freeze the input embeddings too")


class TrainSettings(StrictTable):
    """`[train]`: how a stage is trained."""

    strategy: Strategy = Field(
        default="seq",
        description="seq: plain tuning; freeze: see [train.freeze]; anchor: see [anchor]",
    )
    freeze: FreezeSettings | None = Field(
        default=None, description="a table: what strategy freeze keeps as it is"
    )
    learning_rate: Positive = Field(
        default=1e-5, description="the highest learning rate of the schedule"
    )
    batch_size: RowCount = Field(default=16, description="examples an optimizer step")
    micro_batch_size: RowCount | None = Field(
        default=None,
        description="examples a forward pass; less memory, same result; default: batch_size",
    )
    steps: StepCount | None = Field(
        default=None, description="optimizer steps; either this or epochs"
    )
    epochs: Epochs | None = Field(
        default=None, description="passes over the data; either this or steps"
    )
    lr_schedule: Schedule = Field(
        default="constant", description="the learning rate after the warm-up"
    )
    warmup_steps: StepCountOrZero = Field(
        default=20, description="steps in which the learning rate rises from 0"
    )
    min_lr_ratio: Share = Field(
        default=0.0, description="what linear and cosine fall towards, as a share of learning_rate"
    )
    weight_decay: NotNegative = Field(default=0.0, description="AdamW's weight decay")
    betas: Betas = Field(default=(0.9, 0.95), description="AdamW's betas")
    epsilon: Positive = Field(default=1e-8, description="AdamW's epsilon")
    max_grad_norm: NotNegative = Field(
        default=1.0, description="largest gradient norm; 0 = no clipping"
    )
    max_length: Count | None = Field(
        default=None, description="longest example in tokens; default: the model's limit"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="compute activations twice to save memory"
    )
    length_grouped: bool = Field(
        default=True, description="put examples of like length into one batch"
    )
    on_nan: Literal["stop", "continue"] = Field(
        default="stop",
        description="what a loss that is not finite does; continue: once, from the last "
        "good checkpoint",
    )
    nan_lr_factor: Factor = Field(
        default=0.5, description="what the learning rate is multiplied by then"
    )
    threads: ThreadCount | None = Field(
        default=None, description="CPU threads; default: torch's own choice"
    )

    @property
    def micro_batch(self) -> int:
        """Examples a forward pass: `micro_batch_size`, or the whole batch."""
        return self.micro_batch_size or self.batch_size

    def total_steps(self, examples: int) -> int:
        """Return the optimizer steps of a stage over that many training examples."""
        if self.epochs is not None:
            return max(1, math.ceil(self.epochs * examples / self.batch_size))
        return self.steps or DEFAULT_STEPS


class ReplayStageSettings(StrictTable):
    """`[replay_stage]`: a last stage, `replay`, on a known task's train split."""

    steps: StepCountOrZero = Field(default=0, description="optimizer steps; 0 = no such stage")
    task: Name | None = Field(
        default=None, description="on which task; default: the first watched one"
    )
    train: PlainTable = Field(default={}, description="any keys of [train], for this stage alone")
