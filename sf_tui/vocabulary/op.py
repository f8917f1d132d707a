"""The definition of an op and of its arguments. `sf_tui.vocabulary.ops` defines the ops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FROZEN = "frozen"
ANCHORED = "anchored"
PAUSED = "paused"
"""Run states that ops turn on and off."""

PROTECT = "protect"
RECOVER = "recover"
TEST = "test"
GO_BACK = "go back"
"""The purposes that ops can serve against a drop."""

_CONTROL_CHARACTERS = frozenset(map(chr, (*range(32), 127)))


@dataclass(frozen=True)
class Argument:
    """One argument of an op.

    Attributes:
        name: its key in `[actions.NAME]`, in a rule's `arguments` and in a command.
        type: int, float, bool or str. A float also takes a whole number; str is one line of text.
        lines: whether a text may have several lines.
        description: its meaning, for the guide and the JSON Schema.
        default: its value if the profile gives none. None: the op decides.
        minimum: the smallest value.
        above: an exclusive lower bound.
        maximum: the largest value.
        below: an exclusive upper bound.
        example: the value that `sf profile init` shows for an argument without a default.
    """

    name: str
    type: type
    description: str
    default: Any = None
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    example: Any = None
    lines: bool = False

    def accepts(self, value: object) -> bool:
        """Return whether a value has the argument's type and is within its bounds."""
        if self.type in (bool, str):
            forbidden = _CONTROL_CHARACTERS - {"\n"} if self.lines else _CONTROL_CHARACTERS
            is_text = not isinstance(value, str) or (value != "" and forbidden.isdisjoint(value))
            return isinstance(value, self.type) and is_text
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.type is int and not isinstance(value, int):
            return False
        try:
            # A whole number can be too large for a float.
            if not math.isfinite(value):
                return False
        except OverflowError:
            return False
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
        )

    @property
    def largest_count(self) -> int | None:
        """The upper bound of a whole number, which only a typing mistake exceeds."""
        return int(self.maximum) if self.type is int and self.maximum is not None else None

    @property
    def wanted(self) -> str:
        """The accepted values, in words."""
        if self.type is bool:
            return "true or false"
        if self.type is str:
            return "text that is not empty" if self.lines else "text on one line that is not empty"
        if self.type is int:
            return "a whole number" + ("" if self.minimum is None else f" of at least {self._low}")
        if self.minimum is not None and self.below is not None:
            return f"a share from {self._low} up to but not {self.below:g}"
        if self.above is not None and self.maximum is not None:
            return f"a number above {self._low} and up to {self.maximum:g}"
        if self.minimum is not None and self.maximum is not None:
            return f"a share from {self._low} to {self.maximum:g}"
        if self.above is not None:
            return f"a number above {self._low}"
        return "a number" + ("" if self.minimum is None else f" of at least {self._low}")

    @property
    def _low(self) -> str:
        low = self.minimum if self.minimum is not None else self.above
        return f"{low:g}"


@dataclass(frozen=True)
class Op:
    """One op.

    Attributes:
        name: its name in profiles, events and the implementation; also the default action's name.
        help: a phrase that describes it.
        arguments: its arguments.
        settings: the profile's table with the values of arguments that are set nowhere else.
        key: the default action's key; empty for none.
        may_have_key: whether a profile can bind a key to it.
        doing: the word for its work in progress, if it takes a while.
        confirm: whether the console asks first.
        typed_yes: whether the console requires a typed yes, because it discards work.
        consequence: returns its effect on the weights, from its arguments, for the confirmation.
        purpose: its use against a drop: `protect`, `recover`, `test` or `go back`. The console
            suggests ops by purpose; an op without one is never suggested.
        turns_on: the run state that it turns on: `frozen`, `anchored`, `paused`.
        turns_off: the run state that it turns off. The op is refused while that state is off.
        also_turns_on: by argument, the run state that it turns on if that argument is true.
        inverse: the op that undoes it.
        changes_weights: whether it changes the weights in place, other than by a training step. The
            worker then saves a checkpoint before it and probes after it, and earlier verdicts
            become void.
        opens_window: whether it opens a danger window and arms the alerts again. An op that changes
            weights always does.
        replayed: whether a resume applies it again at its step, because later steps depend on it.
        ends_step: whether the commands after it must not be read until it is done.
        interrupts: whether it acts at once, while another command is running.
        one_at_a_time: whether a second one is refused while one is under way or waits.
        needs_old_task: whether a watched task must have been learned before the stage.
        edit: whether it edits weights in one pass, without data or steps.
        after_end: the `sf` command that does the same after the run has ended, with `{run}`.
        result_event: the event that contains its result; charts then mark that event.
        charted: whether charts mark the step at which it was done and changed something.
        footer_rank: position in the console's footer, lowest first.
    """

    name: str
    help: str
    arguments: tuple[Argument, ...] = ()
    settings: str = ""
    key: str = ""
    may_have_key: bool = True
    doing: str = ""
    confirm: bool = False
    typed_yes: bool = False
    consequence: Callable[[Mapping[str, Any]], Iterable[str]] | None = None
    purpose: str = ""
    turns_on: str = ""
    turns_off: str = ""
    also_turns_on: Mapping[str, str] = field(default_factory=dict, hash=False)
    inverse: str = ""
    changes_weights: bool = False
    opens_window: bool = False
    replayed: bool = False
    ends_step: bool = False
    interrupts: bool = False
    one_at_a_time: bool = False
    needs_old_task: bool = False
    edit: bool = False
    after_end: str = ""
    result_event: str = ""
    charted: bool = True
    footer_rank: int = 100

    @property
    def endangers(self) -> bool:
        """Whether losses are likely after it, so that a danger window opens."""
        return self.opens_window or self.changes_weights

    def argument(self, name: str) -> Argument | None:
        """Return the argument with a name, or None."""
        return next((argument for argument in self.arguments if argument.name == name), None)

    def states_on(self, arguments: Mapping[str, Any]) -> frozenset[str]:
        """Return the run states that it turns on with these arguments."""
        also = {state for name, state in self.also_turns_on.items() if arguments.get(name)}
        return frozenset({self.turns_on, *also} - {""})

    @property
    def argument_names(self) -> tuple[str, ...]:
        """The names of its arguments."""
        return tuple(argument.name for argument in self.arguments)

    @property
    def defaults(self) -> dict[str, Any]:
        """The default of each argument."""
        return {argument.name: argument.default for argument in self.arguments}
