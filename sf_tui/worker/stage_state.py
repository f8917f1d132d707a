"""What a stage stores beside weights and moments, as a resume and a rollback want it.

Knows the kinds of values, and whether they fit the run's model and profile; both are checked before
anything of the stage is touched.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sf_tui.engine.checkpoint import Checkpoint
from sf_tui.engine.checkpoint_state import STATE_FILE, DamagedCheckpointError
from sf_tui.engine.strategies import StageStrategies


class StoredStrategy(BaseModel):
    """What a checkpoint stores of one strategy, beside its tensors."""

    model_config = ConfigDict(strict=True)

    on: bool
    facts: dict[str, Any]
    """As the strategy's own schema has them."""


class StageState(BaseModel):
    """What `StagePlay.save` adds to a checkpoint's state."""

    model_config = ConfigDict(strict=True)

    logged: int = Field(ge=0)
    """Events in the log when it was written."""
    frozen: list[str]
    sticky_frozen: list[str]
    strategies: dict[str, StoredStrategy]
    """By name, in the order in which the stage came to know them."""
    rules_crossed: list[str]
    baseline: dict[str, dict[str, float | None]]
    accuracy: dict[str, dict[str, float | None]]
    score: float | None
    asked_for: bool
    threads: int = Field(ge=1)
    torch: str


def check_fits(
    checkpoint: Checkpoint,
    *,
    layers: Collection[str],
    rules: Collection[str],
    last_step: int,
    strategies: StageStrategies,
) -> None:
    """Make sure that a checkpoint belongs to a stage of this model and profile.

    Args:
        checkpoint: of a stage; its state has the keys of `StageState`.
        layers: names of the model's layers.
        rules: names of the profile's rules.
        last_step: steps of the stage.
        strategies: the stage's.

    Raises:
        DamagedCheckpointError: it names layers or rules that there are not, or a step beyond the
            stage's end.
    """
    state = checkpoint.state
    wrong = None
    if checkpoint.step > last_step:
        wrong = f"step {checkpoint.step}, and the stage has {last_step}"
    for key, known in (("frozen", layers), ("sticky_frozen", layers), ("rules_crossed", rules)):
        strange = [name for name in state[key] if name not in known]
        if strange:
            kind = "rule" if key == "rules_crossed" else "layer"
            wrong = f"{key} names '{strange[0]}', a {kind} that there is not"
    if all(name in state["frozen"] for name in layers):
        wrong = "every layer is frozen"
    wrong = strategies.problem(state["strategies"]) or wrong
    if wrong:
        raise DamagedCheckpointError(f"{checkpoint.path / STATE_FILE}: {wrong}", checkpoint.path)
