"""How a stage is trained: `[train]`, tables laid over it, `[neighbors]` and `[replay_stage]`.

The strategies' names and tables come from `sf_tui.vocabulary.strategies`. `take_in_strategies` adds
those registered since; all code that reads a profile or the schema calls it first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field
from pydantic.fields import FieldInfo

from sf_tui.profile.names import Schedule
from sf_tui.profile.values import (
    Betas,
    Count,
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
from sf_tui.vocabulary.strategies import (
    STRATEGIES,
    FreezeSettings,
    StrategyDeclaration,
    StrategySettings,
    StrictTable,
    strategy_declared,
)

__all__ = [
    "FreezeSettings",
    "NeighborKinds",
    "NeighborSettings",
    "ReplayStageSettings",
    "StrictTable",
    "TrainSettings",
]

DEFAULT_STEPS = 300


class TrainSettings(StrictTable):
    """`[train]`: how a stage is trained."""

    strategy: str = "seq"
    """One of `STRATEGIES`; a strategy with settings has its own table beside this key."""
    learning_rate: Positive = Field(
        default=1e-5, description="the highest learning rate of the schedule"
    )
    batch_size: RowCount = Field(default=16, description="examples per optimizer step")
    micro_batch_size: RowCount | None = Field(
        default=None,
        description="examples per forward pass; less memory, same result; default: batch_size",
    )
    steps: StepCount | None = Field(
        default=None, description="optimizer steps; either this or epochs"
    )
    epochs: Epochs | None = Field(
        default=None, description="passes over the data; either this or steps"
    )
    lr_schedule: Schedule = Field(
        default="constant", description="the learning rate after the warm-up; never 0"
    )
    warmup_steps: StepCountOrZero = Field(
        default=20, description="steps in which the learning rate rises from 0"
    )
    min_lr_ratio: Share = Field(
        default=0.0,
        description="share of learning_rate that linear and cosine fall towards; the last step's "
        "rate is above it",
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
    torch_compile: bool = Field(
        default=False,
        description="compile the blocks for training steps; a resume is then exact to float "
        "tolerance only",
    )
    tf32: bool = Field(
        default=False,
        description="round the inputs of float32 products on an NVIDIA GPU to TF32, in the whole "
        "run",
    )
    length_grouped: bool = Field(
        default=True, description="put examples of similar length into one batch"
    )
    on_nan: Literal["stop", "continue"] = Field(
        default="stop",
        description="reaction to a loss that is not finite; continue: once, from the last "
        "good checkpoint",
    )
    nan_lr_factor: Factor = Field(default=0.5, description="factor on the learning rate after that")
    threads: ThreadCount | None = Field(
        default=None, description="CPU threads; default: torch's own choice"
    )

    @property
    def declaration(self) -> StrategyDeclaration:
        """The strategy's declaration."""
        return strategy_declared(self.strategy)

    def table(self, key: str) -> StrategySettings | None:
        """Return a strategy's table as given in `[train]`; None if it isn't."""
        table: StrategySettings | None = getattr(self, key, None)
        return table

    @property
    def micro_batch(self) -> int:
        """Examples per forward pass: `micro_batch_size`, or the whole batch."""
        return self.micro_batch_size or self.batch_size

    def total_steps(self, examples: int) -> int:
        """Return the number of optimizer steps of a stage with this many training examples."""
        if self.epochs is not None:
            return max(1, math.ceil(self.epochs * examples / self.batch_size))
        return self.steps or DEFAULT_STEPS


class ReplayStageSettings(StrictTable):
    """`[replay_stage]`: a last stage, `replay`, on a known task's train split."""

    steps: StepCountOrZero = Field(default=0, description="optimizer steps; 0 = omit this stage")
    task: Name | None = Field(
        default=None, description="task to train on; default: the first watched one"
    )
    train: PlainTable = Field(default={}, description="keys of [train] for this stage only")


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


INSTEAD_OF: dict[str, str] = {
    "steps": "epochs",
    "epochs": "steps",
    "above": "below",
    "below": "above",
}
"""Keys that exclude each other: overlaying one on a table removes the other."""


def overlay_train(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plain `[train]` table with another one laid over it; neither is changed.

    A strategy's table is only kept with its strategy: a stage that returns to plain tuning drops
    the settings of the other one.
    """
    merged = {**base, **own}
    for key, other in INSTEAD_OF.items():
        if key in own and other not in own:
            merged.pop(other, None)
    for declaration in STRATEGIES.values():
        key = declaration.train_key or ""
        inherited, given = base.get(key), own.get(key)
        if isinstance(inherited, Mapping) and isinstance(given, Mapping):
            merged[key] = {**inherited, **given}
        elif given is None and own.get("strategy", declaration.name) != declaration.name:
            merged.pop(key, None)
    return merged


def replay_stage_base(train: TrainSettings, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain `[train]` table that `[replay_stage] train` is laid over.

    Args:
        train: the profile's `[train]`.
        own: the table that is laid over it. Only where it names a strategy is one kept that holds
            a stage near its start: that start is what the stage is to bring back from.
    """
    base = train.model_dump(exclude_none=True)
    if train.declaration.holds_start and "strategy" not in own:
        base = overlay_train(base, {"strategy": "seq"})
    return base


def take_in_strategies(*users: type[StrictTable]) -> None:
    """Update the schema with the strategies that are registered now.

    Args:
        users: the tables that hold a `TrainSettings`; their schemas are rebuilt.
    """
    fields = TrainSettings.__pydantic_fields__
    names = tuple(STRATEGIES)
    if getattr(fields["strategy"].annotation, "__args__", None) == names:
        return
    plain = {key: field for key, field in fields.items() if key not in _taken_in}
    fields.clear()
    # The values are only known at run time, so type checkers can't follow these two annotations.
    allowed: Any = Literal[names]
    fields["strategy"] = FieldInfo.from_annotated_attribute(
        allowed,
        Field(default="seq", description=_summary(STRATEGIES.values())),
    )
    _taken_in.clear()
    _taken_in.add("strategy")
    for declaration in STRATEGIES.values():
        key = declaration.train_key
        if key is None or declaration.settings is None:
            continue
        title = (declaration.settings.__doc__ or "").partition(": ")[2].partition("\n")[0]
        optional: Any = declaration.settings | None
        fields[key] = FieldInfo.from_annotated_attribute(
            optional,
            Field(default=None, description=f"a table: {title.rstrip('.')}"),
        )
        _taken_in.add(key)
    fields.update(plain)
    schemas: tuple[type[StrictTable], ...] = (TrainSettings, *users)
    for table in schemas:
        table.model_rebuild(force=True)


_taken_in = {"strategy"}
"""Keys of `TrainSettings` that come from the declarations."""


def _summary(declarations: Iterable[StrategyDeclaration]) -> str:
    """Return a description of each strategy and its table, for the key's description."""
    return "; ".join(
        f"{one.name}: {one.description}" + (f", see [{one.table}]" if one.table else "")
        for one in declarations
    )


take_in_strategies()
