"""The tables of what stands in for old data: `[anchor]` and `[neighbours]`."""

from __future__ import annotations

from pydantic import Field

from sf_tui.profile.train_schema import StrictTable
from sf_tui.profile.values import NotNegative, Positive, RowCount, Share


class AnchorSettings(StrictTable):
    """`[anchor]`: how a stage, and a repair, is held to the model that the stage started from."""

    strength: Positive = Field(
        default=1.0, description="weight of the KL to the start model beside the new task's loss"
    )
    rows: RowCount | None = Field(
        default=None, description="neighbour prompts an optimizer step; default: batch_size"
    )
    prompts: RowCount | None = Field(
        default=None,
        description="neighbour prompts in the cache; default: one for each row of each step, "
        "<= 16384",
    )
    answer_tokens: RowCount | None = Field(
        default=None,
        description="longest answer of the start model in tokens; default: the new task's "
        "longest, from 4 to 32",
    )
    top_k: RowCount = Field(
        default=64, description="how many of the start model's likeliest tokens are kept"
    )


class NeighbourKinds(StrictTable):
    """`[neighbours.kinds]`: weights of the kinds of neighbour prompts; 0 leaves a kind out."""

    substitution: NotNegative = Field(
        default=1.0, description="a new prompt with one token exchanged for another likely one"
    )
    frame: NotNegative = Field(
        default=2.0, description="the new prompts' frame around other slot words"
    )
    words: NotNegative = Field(default=1.0, description="random words around such slot words")
    tokens: NotNegative = Field(
        default=1.0, description="random tokens in the model's own prompt format"
    )
    written: NotNegative = Field(
        default=0.0, description="prompts that the start model writes or continues"
    )


class NeighbourSettings(StrictTable):
    """`[neighbours]`: prompts beside the new task's, made by the start model, from no old data."""

    budget: Share = Field(
        default=0.03,
        description="share of a stage's work that naming the tasks at risk may take at its start; "
        "0 = don't",
    )
    leave_out: list[str] = Field(
        default_factory=list,
        description="tasks whose subjects no neighbour prompt of an anchor may repeat: an anchor "
        "needs no such task, but a measurement of what it keeps may",
    )
    kinds: NeighbourKinds = Field(
        default_factory=NeighbourKinds, description="a table: the weight of each kind of neighbour"
    )
