"""The tables that say what can be done to a run: `[actions.NAME]`, and `[[rules]]` that do it.

Knows the ops' arguments, their types and which op takes which. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from sf_tui.errors import UsageError, did_you_mean, nearest_name
from sf_tui.profile.names import OP_ARGUMENTS, Op, RuleMetric, ops_that_take
from sf_tui.profile.train_schema import StrictTable
from sf_tui.profile.values import (
    Count,
    CountOrZero,
    ExampleCount,
    Factor,
    Kept,
    KeyName,
    Line,
    Name,
    Number,
    PlainTable,
    Positive,
    StepCount,
    listed,
    toml_value,
    wanted_text,
)


class Rule(StrictTable):
    """`[[rules]]`: an action that the worker takes by itself when a metric crosses a bound."""

    name: Name = Field(description="what events call it")
    metric: RuleMetric = Field(description="what is watched")
    above: Number | None = Field(
        default=None, description="it fires above this; either this or below"
    )
    below: Number | None = Field(
        default=None, description="it fires below this; either this or above"
    )
    within_steps: Count | None = Field(
        default=None, description="only in the first steps of a stage; default: in all of them"
    )
    once: bool = Field(default=True, description="fire at most once in a run")
    action: str = Field(description="the action to take, a name among [actions]")
    args: PlainTable = Field(default={}, description="arguments that replace the action's own")


class Action(StrictTable):
    """`[actions.NAME]`: a named, keyed operation."""

    op: Op = Field(description="what it does")
    key: KeyName = Field(default=None, description='the console\'s key for it; "" = none')
    label: Line | None = Field(
        default=None, description="what the console calls it; default: its name"
    )
    confirm: bool = Field(default=False, description="ask before doing it")
    layers: CountOrZero | None = Field(
        default=None, description="freeze: blocks from the bottom; default: half of them"
    )
    embeddings: bool = Field(default=True, description="freeze: the input embeddings too")
    to: Line | None = Field(
        default=None, description="rollback: the checkpoint's name; default: the last good one"
    )
    strength: Positive | None = Field(
        default=None,
        description="anchor, recover: weight of the KL to the start model; default: [anchor]'s or "
        "[recover]'s",
    )
    examples: ExampleCount | None = Field(
        default=None,
        description="diagnose, recover: old examples to train on; default: [diagnose]'s or "
        "[recover]'s",
    )
    thorough: bool = Field(
        default=False, description="diagnose: add the recovery on half of the old data"
    )
    steps: StepCount | None = Field(
        default=None, description="recover: optimizer steps; default: [recover]'s"
    )
    alpha: Factor = Field(
        default=1.0, description="shift-edit: how much of each matrix's top direction is removed"
    )
    keep: Kept = Field(
        default=0.7, description="interpolate: share kept of the change since the stage's start"
    )

    @field_validator("examples")
    @classmethod
    def _examples_of_op(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value == 0 and info.data.get("op") == "diagnose":
            raise ValueError("a diagnosis needs an example")
        return value

    def arguments(self, replaced: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the op's arguments, some of them replaced by a rule's or a command's own.

        Raises:
            UsageError: an argument that the op does not take, or one of a wrong type.
        """
        own = self.own_arguments
        for name, value in (replaced or {}).items():
            if name not in own:
                raise UsageError(
                    f"op '{self.op}' takes no argument '{name}'", _argument_hint(name, own)
                )
            try:
                Action.model_validate({"op": self.op, name: value})
            except ValidationError as error:
                field = Action.model_fields[name]
                raise UsageError(
                    f"{name} = {toml_value(value)}: wanted {wanted_text(field, value)}"
                ) from error
            own[name] = value
        return own

    @property
    def own_arguments(self) -> dict[str, Any]:
        """The op's arguments as the profile gives them."""
        return {name: getattr(self, name) for name in OP_ARGUMENTS[self.op]}


def _argument_hint(name: str, own: Mapping[str, Any]) -> str:
    takers = ops_that_take(name)
    if takers and nearest_name(name, own) is None:
        return takers_text(takers)
    return did_you_mean(name, own, "arguments") if own else "it takes none"


def takers_text(ops: list[str]) -> str:
    """Tell to which ops an argument belongs."""
    return f"it belongs to {'ops' if len(ops) > 1 else 'op'} {listed(ops)}"
