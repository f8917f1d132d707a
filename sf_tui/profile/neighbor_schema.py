"""`[neighbors]`: prompts that stand in for old data."""

from __future__ import annotations

from pydantic import Field

from sf_tui.profile.train_schema import StrictTable
from sf_tui.profile.values import NotNegative, Share


class NeighborKinds(StrictTable):
    """`[neighbors.kinds]`: weights of the kinds of neighbor prompts; 0 leaves a kind out."""

    substitution: NotNegative = Field(
        default=1.0, description="a new prompt with one token exchanged for another likely one"
    )
    same_template: NotNegative = Field(
        default=2.0, description="the new prompts' frame around other slot words"
    )
    random_words: NotNegative = Field(
        default=1.0, description="random words around such slot words"
    )
    random_tokens: NotNegative = Field(
        default=1.0, description="random tokens in the model's own prompt format"
    )
    written: NotNegative = Field(
        default=0.0, description="prompts that the start model writes or continues"
    )


class NeighborSettings(StrictTable):
    """`[neighbors]`: prompts beside the new task's, made by the start model, from no old data."""

    survey_budget: Share = Field(
        default=0.03,
        description="share of a stage's work that naming the tasks at risk may take at its start; "
        "0 = don't",
    )
    exclude_tasks: list[str] = Field(
        default_factory=list,
        description="tasks whose subjects no neighbor prompt of an anchor may repeat: an anchor "
        "needs no such task, but a measurement of what it keeps may",
    )
    kinds: NeighborKinds = Field(
        default_factory=NeighborKinds, description="a table: the weight of each kind of neighbor"
    )
