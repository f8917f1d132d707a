"""The tables `[actions.NAME]` and `[[rules]]`: operations on a run, and rules that trigger them.

The ops and their arguments come from the vocabulary. Runs no op.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any

from pydantic import (
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from sf_tui.errors import UsageError, did_you_mean, nearest_name
from sf_tui.profile.names import RuleMetric
from sf_tui.profile.train_schema import StrictTable
from sf_tui.profile.values import (
    Count,
    KeyName,
    Line,
    Name,
    Number,
    OpName,
    PlainTable,
    Wanted,
    listed,
    toml_value,
    wanted_text,
)
from sf_tui.vocabulary.ops import OPS, Argument, op_named, ops_that_take


class Rule(StrictTable):
    """`[[rules]]`: an action that the worker takes by itself when a metric crosses a bound."""

    name: Name = Field(description="name in events")
    metric: RuleMetric = Field(
        description="metric to watch; kl: divergence from the start model, `sf guide own-training`"
    )
    above: Number | None = Field(
        default=None, description="fires above this value; either this or below"
    )
    below: Number | None = Field(
        default=None, description="fires below this value; either this or above"
    )
    within_steps: Count | None = Field(
        default=None, description="fires only in this many first steps of a stage; default: all"
    )
    once: bool = Field(default=True, description="fire at most once in a run")
    action: str = Field(description="name of the action to run, from [actions]")
    arguments: PlainTable = Field(default={}, description="arguments that replace the action's own")


class Action(StrictTable):
    """`[actions.NAME]`: a named, keyed operation."""

    # The arguments of the op are keys of the same table. They are checked against the ops that
    # are registered when the profile is loaded.
    model_config = ConfigDict(extra="allow")

    op: OpName = Field(description="op to run")
    key: KeyName = Field(default=None, description='key in the console; "" = none')
    label: Line | None = Field(
        default=None, description="label in the console; default: the action's name"
    )
    confirm: bool = Field(default=False, description="ask for confirmation first")

    @model_validator(mode="wrap")
    @classmethod
    def _check_arguments(cls, table: Any, validate: ModelWrapValidatorHandler[Action]) -> Action:
        if not isinstance(table, dict):
            return validate(table)
        own = {key: value for key, value in table.items() if key in cls.model_fields}
        name = own.get("op")
        op = op_named(name) if isinstance(name, str) else op_named("")
        arguments = dict(op.defaults)
        errors: list[InitErrorDetails] = []
        for key, value in table.items():
            argument = op.argument(key)
            if key in own:
                continue
            if argument is None:
                # An argument of another op is reported later, with the ops that take it.
                if not ops_that_take(key):
                    errors.append(InitErrorDetails(type="extra_forbidden", loc=(key,), input=value))
            elif not argument.accepts(value):
                wrong = PydanticCustomError("argument", "not a value of this argument")
                errors.append(InitErrorDetails(type=wrong, loc=(key,), input=value))
            else:
                arguments[key] = float(value) if argument.type is float else value
        try:
            action = validate(own | arguments)
        except ValidationError as error:
            errors = [
                InitErrorDetails(
                    type=found["type"],
                    loc=found["loc"],
                    input=found["input"],
                    ctx=found.get("ctx", {}),
                )
                for found in error.errors()
            ] + errors
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return action

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return the table's schema with the arguments of every registered op."""
        table = handler.resolve_ref_schema(handler(schema))
        for name, takers in _takers().items():
            shapes: list[dict[str, Any]] = []
            for op in takers:
                argument = op_named(op).argument(name)
                shape = _json_shape(argument) if argument is not None else {}
                if shape not in shapes:
                    shapes.append(shape)
            shape = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
            table["properties"][name] = {"description": argument_meaning(name, takers), **shape}
        table["additionalProperties"] = False
        return table

    def arguments(self, replaced: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the op's arguments, some of them replaced by those of a rule or a command.

        Raises:
            UsageError: an argument that the op does not take or that has the wrong type.
        """
        own = self.own_arguments
        for name, value in (replaced or {}).items():
            argument = op_named(self.op).argument(name)
            if argument is None:
                raise UsageError(
                    f"op '{self.op}' takes no argument '{name}'", _argument_hint(name, own)
                )
            left_out = value is None and argument.default is None
            if not left_out and not argument.accepts(value):
                wanted = wanted_text(argument_field(argument), value)
                raise UsageError(f"{name} = {toml_value(value)}: must be {wanted}")
            own[name] = value
        return own

    @property
    def own_arguments(self) -> dict[str, Any]:
        """The op's arguments as the profile gives them."""
        given = self.model_extra or {}
        return {name: given[name] for name in op_named(self.op).argument_names}


@lru_cache(maxsize=256)
def argument_field(argument: Argument) -> FieldInfo:
    """Return an argument as a field of a table, for messages about its value."""
    annotation: Any = argument.type if argument.default is not None else argument.type | None
    wanted: Any = Annotated[annotation, Wanted(argument.wanted, argument.largest_count)]
    field = FieldInfo.from_annotated_attribute(wanted, argument.default)
    field.description = argument.description
    return field


def action_fields(op: object = None) -> dict[str, FieldInfo]:
    """Return the keys of an `[actions.NAME]` table.

    Args:
        op: the op whose arguments are included; all registered ops if it is not one of them.
    """
    arguments: dict[str, FieldInfo] = {}
    for row in [OPS[op]] if isinstance(op, str) and op in OPS else OPS.values():
        for argument in row.arguments:
            arguments.setdefault(argument.name, argument_field(argument))
    return {**Action.model_fields, **arguments}


def documented_arguments() -> Iterable[tuple[str, Argument, str]]:
    """Yield each argument once: its name, its first declaration, and its meaning across ops."""
    for name, takers in _takers().items():
        argument = op_named(takers[0]).argument(name)
        assert argument is not None
        yield name, argument, f"{', '.join(takers)}: {argument_meaning(name, takers)}"


def argument_meaning(name: str, ops: Iterable[str]) -> str:
    """Return an argument's meaning for the ops that take it, with the table of its default."""
    rows = [op_named(op) for op in ops]
    meanings: list[str] = []
    for row in rows:
        argument = row.argument(name)
        if argument is not None and argument.description not in meanings:
            meanings.append(argument.description)
    tables = [f"[{row.settings}]'s" for row in rows if row.settings and row.defaults[name] is None]
    return "; ".join(meanings) + (f"; default: {' or '.join(tables)}" if tables else "")


def _takers() -> dict[str, list[str]]:
    names = dict.fromkeys(argument for op in OPS.values() for argument in op.argument_names)
    return {name: ops_that_take(name) for name in names}


def _json_shape(argument: Argument) -> dict[str, Any]:
    kinds = {int: "integer", float: "number", bool: "boolean", str: "string"}
    bounds = {
        "minimum": argument.minimum,
        "exclusiveMinimum": argument.above,
        "maximum": argument.maximum,
        "exclusiveMaximum": argument.below,
        "default": argument.default,
    }
    shape = {key: bound for key, bound in bounds.items() if bound is not None}
    return {"type": kinds[argument.type], **shape}


def _argument_hint(name: str, own: Mapping[str, Any]) -> str:
    takers = ops_that_take(name)
    if takers and nearest_name(name, own) is None:
        return takers_text(takers)
    return did_you_mean(name, own, "arguments") if own else "it takes no arguments"


def takers_text(ops: list[str]) -> str:
    """Return the ops that take an argument, as a sentence."""
    return f"it belongs to {'ops' if len(ops) > 1 else 'op'} {listed(ops)}"
