"""The tables of what tells a loss's kind and mends it: `[diagnose]` and `[recover]`."""

from __future__ import annotations

from pydantic import Field

from sf_tui.profile.train_schema import StrictTable
from sf_tui.profile.values import Count, CountOrZero, Factor, Line, Part, Positive, StepCount


class DiagnoseSettings(StrictTable):
    """`[diagnose]`: the recovery test, on a copy of the weights."""

    examples: Count = Field(
        default=10, description="old examples that its examples arm is tuned on"
    )
    steps: StepCount | None = Field(
        default=None, description="optimizer steps of an arm; default: chosen for each arm"
    )
    learning_rate: Positive | None = Field(
        default=None, description="of every arm; default: found by a short search"
    )
    control: Line | None = Field(
        default=None,
        description="data of facts that the model never saw, written as a task's; they give the "
        "guess floor",
    )
    unrelated: Line | None = Field(
        default=None,
        description="data of another task, written as a task's; adds the arm that is tuned on it",
    )


class RecoverSettings(StrictTable):
    """`[recover]`: what op recover does, for good, and keeping the new task."""

    examples: CountOrZero = Field(
        default=0, description="old examples to train on; 0 = without any old data"
    )
    steps: StepCount = Field(default=150, description="optimizer steps at most; the best one stays")
    learning_rate: Positive | None = Field(default=None, description="default: half of the stage's")
    strength: Positive = Field(
        default=1.0, description="weight of the KL to the start model beside the other losses"
    )
    old_share: Part = Field(
        default=0.25,
        description="share of a step's rows that are old examples, where there are some",
    )
    interpolate: Factor | None = Field(
        default=None,
        description="share kept of the change since the stage's start before the first step; "
        "default: searched",
    )
