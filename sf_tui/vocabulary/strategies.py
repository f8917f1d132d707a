"""The declarations of strategies: name, settings table, needs, cost and source.

Each strategy has one declaration, here or in another package, and one implementation, a class
described by `sf_tui.engine.strategies.base.Strategy`. The profile's schema and checks, the guide
and `sf profile init` read the declarations. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sf_tui.vocabulary.sizes import counted

# Far above any sensible value: larger numbers are typing mistakes, and a list, a batch or a thread
# pool of that size would exhaust the machine.
MAX_COUNT = 10**9
MAX_ROWS = 10**6


class StrictTable(BaseModel):
    """A table that accepts no unknown key and no value of another type."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Wanted:
    """The accepted values of a key, in words; part of its type's annotation."""

    text: str
    most: int | None = None
    """The largest accepted number, which messages name if a value exceeds it."""

    def given(self, value: object) -> str:
        """Return the accepted values in words, for a message about this value."""
        beyond = isinstance(value, int | float) and self.most is not None and value > self.most
        return f"at most {self.most:,}" if beyond else self.text


def finite(value: object) -> object:
    """Return a number, a whole one as a float; ValueError if it is too large for a float."""
    # pydantic's strict float accepts a whole number that is too large for a float.
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError("not finite") from error
    return value


Number = Annotated[float, BeforeValidator(finite), Wanted("a number")]
NotNegative = Annotated[
    float, BeforeValidator(finite), Field(ge=0), Wanted("a number of at least 0")
]
Positive = Annotated[float, BeforeValidator(finite), Field(gt=0), Wanted("a number above 0")]
Share = Annotated[float, BeforeValidator(finite), Field(ge=0, le=1), Wanted("a share from 0 to 1")]
Part = Annotated[
    float, BeforeValidator(finite), Field(gt=0, lt=1), Wanted("a share between 0 and 1")
]
PartOrZero = Annotated[
    float, BeforeValidator(finite), Field(ge=0, lt=1), Wanted("a share from 0 to below 1")
]
Factor = Annotated[
    float, BeforeValidator(finite), Field(gt=0, le=1), Wanted("a number above 0 and up to 1")
]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT), Wanted("a whole number of at least 1", MAX_COUNT)]
CountOrZero = Annotated[
    int, Field(ge=0, le=MAX_COUNT), Wanted("a whole number of at least 0", MAX_COUNT)
]
RowCount = Annotated[
    int, Field(ge=1, le=MAX_ROWS), Wanted("a whole number of at least 1", MAX_ROWS)
]


Need = Literal["old_examples", "start_weights", "neighbor_prompts"]
"""`old_examples`: training rows of earlier tasks; `start_weights`: the stage's start weights by
name; `neighbor_prompts`: prompts derived from the new task's."""


class StrategySettings(StrictTable):
    """The settings of a strategy."""

    def problem(self, batch_size: int) -> tuple[str, str] | None:  # noqa: ARG002  for subclasses
        """Return the problem with them in a stage and its remedy; None if they fit."""
        return None


class FreezeSettings(StrategySettings):
    """`[train.freeze]`: what strategy freeze keeps as it is."""

    layers: CountOrZero = Field(description="number of blocks to freeze, from the bottom")
    embeddings: bool = Field(default=True, description="freeze the input embeddings too")


class AnchorSettings(StrategySettings):
    """`[anchor]`: how a stage, and a repair, is held to the model that the stage started from."""

    strength: Positive = Field(
        default=1.0, description="weight of the KL to the start model, added to the new task's loss"
    )
    rows: RowCount | None = Field(
        default=None, description="neighbor prompts per optimizer step; default: batch_size"
    )
    cache_size: RowCount | None = Field(
        default=None,
        description="neighbor prompts in the cache; default: one for each row of each step, "
        "<= 16384",
    )
    answer_tokens: RowCount | None = Field(
        default=None,
        description="longest answer of the start model in tokens; default: the new task's "
        "longest, from 4 to 32",
    )
    top_k: RowCount = Field(
        default=64, description="number of the start model's most likely tokens kept"
    )
    taught_share: PartOrZero = Field(
        default=0.25,
        description="from the second stage with an earlier task on, share of the prompts that are "
        "those of tasks that the run taught, without their answers; 0: none",
    )


class ReplaySettings(StrategySettings):
    """`[train.replay]`: how many old examples strategy replay puts into each batch."""

    share: Part = Field(
        default=0.25, description="share of each batch's rows that are old examples"
    )
    rows: RowCount | None = Field(
        default=None, description="old examples in each batch, instead of share"
    )
    examples: RowCount | None = Field(
        default=None,
        description="different old examples of each earlier task; default: every one",
    )

    def problem(self, batch_size: int) -> tuple[str, str] | None:
        """Return why no batch of this size can mix old and new rows, and the remedy; else None."""
        if batch_size < 2:
            return "a batch of 1 has no room for an old example", "set batch_size to 2 or more"
        if self.rows is not None and self.rows >= batch_size:
            return (
                f"rows = {self.rows} leaves no new example in a batch of {batch_size}",
                "set rows below batch_size",
            )
        return None

    def rows_of(self, batch_size: int) -> int:
        """Return the number of old rows in a batch: at least one, and not all of them."""
        wanted = self.rows if self.rows is not None else round(self.share * batch_size)
        return min(max(wanted, 1), batch_size - 1)


class EwcSettings(StrategySettings):
    """`[train.ewc]`: how strongly strategy ewc holds the weights that old examples depend on."""

    strength: Positive = Field(
        default=1e5, description="weight of the penalty: strength / 2 * F * (W - W_start)^2"
    )
    decay: Factor = Field(
        default=1.0, description="factor on the Fisher of earlier tasks at each new one"
    )
    examples: RowCount | None = Field(
        default=200, description="old examples per task that its Fisher is estimated on"
    )


class L2StartSettings(StrategySettings):
    """`[train.l2_start]`: how strongly strategy l2-start pulls the weights back."""

    strength: NotNegative = Field(
        default=0.01, description="weight of the penalty: strength * |W - W_start|^2"
    )


@dataclass(frozen=True)
class StrategyDeclaration:
    """One way to train a stage.

    A strategy that needs old examples has a settings key `examples`: their number, or None for all
    of them.
    """

    name: str
    """Its name in profiles and events."""
    description: str
    """A phrase for the profile's reference."""
    cost: str
    """Compared with a plain step: time, memory, checkpoints."""
    source: str
    """The origin of the method."""
    implementation: str
    """`package.module:Class`, imported when a stage trains with it."""
    settings: type[StrategySettings] | None = None
    """Its settings class, whose docstring begins with the table's name."""
    table: str = ""
    """The table's name in the profile: `anchor`, or a key of `[train]` as in `train.ewc`."""
    needs: frozenset[Need] = frozenset()
    holds_start: bool = False
    """Whether it holds a stage near its start model. The stage of `[replay_stage]` doesn't inherit
    such a strategy, which would hold it to the weights that it has to recover from."""
    divides: bool = True
    """Whether it works on weights that are divided among processes."""
    examples: Mapping[str, Any] = field(default_factory=dict)
    """Values that `sf profile init` shows for settings without a default."""

    @property
    def train_key(self) -> str | None:
        """The settings' key in `[train]`; None if they are elsewhere or absent."""
        head, _, key = self.table.partition(".")
        return key if head == "train" and key else None

    @property
    def needs_table(self) -> bool:
        """Whether the table is required, because one of its keys has no default."""
        return self.settings is not None and any(
            key.is_required() for key in self.settings.model_fields.values()
        )

    def old_data(self, settings: StrategySettings | None, *, taught: bool = False) -> str:
        """Return its access to old data, in words, for a stage with these settings.

        Args:
            settings: its settings.
            taught: whether the stage is held to what the run taught before it.
        """
        if "old_examples" not in self.needs:
            share: float = getattr(settings, "taught_share", 0.0)
            return "prompts of tasks that the run taught" if taught and share else "none"
        count = getattr(settings, "examples", None)
        if count is None:
            return "every training example of earlier tasks"
        return f"{counted(count, 'example')} of each earlier task"

    @property
    def old_data_of_defaults(self) -> str:
        """Its access to old data with default settings."""
        settings = None if self.settings is None or self.needs_table else self.settings()
        return self.old_data(settings)


STRATEGIES: dict[str, StrategyDeclaration] = {}
"""Every strategy by name, in order of registration."""


def register_strategy(declaration: StrategyDeclaration) -> None:
    """Add a strategy; profiles loaded afterwards accept it.

    Raises:
        ValueError: another strategy has the name or the table.
    """
    for known in STRATEGIES.values():
        if known == declaration:
            return
        if known.name == declaration.name:
            raise ValueError(f"there is a strategy '{known.name}' already")
        if declaration.table and known.table == declaration.table:
            raise ValueError(f"[{known.table}] is the table of strategy '{known.name}'")
    STRATEGIES[declaration.name] = declaration


def strategy_declared(name: str) -> StrategyDeclaration:
    """Return the declaration of a strategy that the profile's schema accepted."""
    return STRATEGIES[name]


for _declaration in (
    StrategyDeclaration(
        "seq",
        "plain tuning on the new task",
        cost="none",
        source="the baseline that forgets",
        implementation="sf_tui.engine.strategies.plain:Seq",
    ),
    StrategyDeclaration(
        "freeze",
        "train only above the bottom blocks",
        cost="less than a plain step; with the embeddings frozen, backward ends at the first "
        "trained block",
        source="Zheng et al. 2025 (arXiv 2501.13453), section 5",
        implementation="sf_tui.engine.strategies.plain:Freeze",
        settings=FreezeSettings,
        table="train.freeze",
        examples={"layers": 2},
    ),
    StrategyDeclaration(
        "anchor",
        "keep the start model's answers to neighbor prompts",
        cost="about a second plain step for each step, and the start model's answers once",
        source="this project's experiment; distillation (Hinton et al. 2015, arXiv 1503.02531) "
        "towards the model's own past (Li and Hoiem 2016, arXiv 1606.09282)",
        implementation="sf_tui.worker.anchor_control:AnchorControl",
        settings=AnchorSettings,
        table="anchor",
        needs=frozenset({"neighbor_prompts", "start_weights"}),
        holds_start=True,
        examples={"rows": 16, "cache_size": 4800, "answer_tokens": 16},
    ),
    StrategyDeclaration(
        "replay",
        "put old examples into each batch",
        cost="none: the batch size and the number of steps stay, so new examples are seen less",
        source="experience replay (Ratcliff 1990; Rolnick et al. 2019, arXiv 1811.11682)",
        implementation="sf_tui.engine.strategies.plain:Replay",
        settings=ReplaySettings,
        table="train.replay",
        needs=frozenset({"old_examples"}),
        holds_start=True,
        examples={"rows": 4, "examples": 1000},
    ),
    StrategyDeclaration(
        "ewc",
        "protect the weights that old examples depend on (elastic weight consolidation)",
        cost="one backward pass for each old example at the stage's start; two more copies of the "
        "weights in memory, one more in each checkpoint",
        source="Kirkpatrick et al. 2017 (arXiv 1612.00796); one running Fisher over tasks as in "
        "Schwarz et al. 2018 (arXiv 1805.06370)",
        implementation="sf_tui.engine.strategies.penalties:Ewc",
        settings=EwcSettings,
        table="train.ewc",
        needs=frozenset({"old_examples", "start_weights"}),
        holds_start=True,
        # It has whole copies of the weights on each process.
        divides=False,
    ),
    StrategyDeclaration(
        "l2-start",
        "pull every weight back to its start",
        cost="one more copy of the weights in memory",
        source="L2-SP, Li et al. 2018 (arXiv 1802.01483)",
        implementation="sf_tui.engine.strategies.penalties:L2Start",
        settings=L2StartSettings,
        table="train.l2_start",
        needs=frozenset({"start_weights"}),
        holds_start=True,
        divides=False,
    ),
):
    register_strategy(_declaration)
