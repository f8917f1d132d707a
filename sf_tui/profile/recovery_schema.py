"""The tables of a profile for a recovery test and a repair: `[diagnose]` and `[recover]`."""

from __future__ import annotations

from pydantic import Field

from sf_tui.profile.train_schema import StrictTable
from sf_tui.profile.values import (
    Count,
    CountOrZero,
    Factor,
    Line,
    NotNegative,
    Part,
    Positive,
    Share,
    StepCount,
)


class DiagnoseSettings(StrictTable):
    """`[diagnose]`: the recovery test on a copy of the weights."""

    examples: Count = Field(default=10, description="old examples of the examples arm")
    steps: StepCount | None = Field(
        default=None, description="optimizer steps of each arm; default: chosen for each arm"
    )
    learning_rate: Positive | None = Field(
        default=None, description="learning rate of every arm; default: found by a short search"
    )
    time: NotNegative = Field(
        default=60.0,
        description="seconds within which an undecided test may go on in rounds; 0 = no round",
    )
    control: Line | None = Field(
        default=None,
        description="data about facts that the model never saw, as in a task; they give the guess "
        "floor",
    )
    unrelated: Line | None = Field(
        default=None,
        description="data of another task, as in a task; adds an arm that trains on it",
    )
    beside: bool = Field(
        default=False,
        description="test a running training in a process of its own while the training goes on",
    )
    device: str | None = Field(
        default=None,
        pattern=r"^(cpu|cuda(:\d+)?)$",
        description="device of that process: `cpu`, `cuda` or `cuda:N`; default: the training's",
    )
    threads: Count | None = Field(
        default=None,
        description="CPU threads of that process; default: the cores that the training leaves, at "
        "least 1",
    )


class RecoverSettings(StrictTable):
    """`[recover]`: the lasting repair by op recover, which keeps the new task."""

    examples: CountOrZero = Field(
        default=0, description="old examples to train on; 0 = use no old data"
    )
    steps: StepCount = Field(
        default=150,
        description="maximum number of optimizer steps; the best step is kept. Twice as many "
        "if the new task has to be held harder",
    )
    learning_rate: Positive | None = Field(
        default=None,
        description="default: half of the stage's; others are tried if it is of no use",
    )
    rate_share: Positive | None = Field(
        default=None,
        description="the same as a share of the stage's rate, if it is known; ignored if "
        "`learning_rate` is set",
    )
    new_floor: Share = Field(
        default=0.98,
        description="share of the new task's score before the repair that must be kept; 0 = none",
    )
    strength: Positive = Field(
        default=1.0, description="weight of the KL to the start model, added to the other losses"
    )
    old_share: Part = Field(
        default=0.25,
        description="share of old examples in a step's rows, if there are any",
    )
    interpolate: Factor | None = Field(
        default=None,
        description="share kept of the change since the stage's start before the first step; "
        "default: searched",
    )
    then_anchor: bool = Field(
        default=True,
        description="inside a run: anchor the stage after the repair, at [anchor] strength",
    )
    keep_frozen: bool = Field(
        default=False,
        description="inside a run: leave every frozen layer bit-identical; by default, a layer "
        "that moved before it was frozen is repaired and frozen again",
    )
