"""What an op and its arguments are. The ops themselves are rows in `sf_tui.vocabulary.ops`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

FROZEN = "frozen"
ANCHORED = "anchored"
PAUSED = "paused"
"""The states of a run that ops turn on and off."""

PROTECT = "protect"
RECOVER = "recover"
TEST = "test"
GO_BACK = "go back"
"""What ops can do against a drop."""

_CONTROL_CHARACTERS = frozenset(map(chr, (*range(32), 127)))


@dataclass(frozen=True)
class Argument:
    """One argument of an op.

    Attributes:
        name: its key in `[actions.NAME]`, in a rule's `arguments` and in a command.
        type: int, float, bool or str. A float also takes a whole number; str is one line of text.
        description: what it means, for the guide and for the JSON Schema.
        default: its value where the profile gives none. None: the op decides.
        minimum: the smallest value.
        above: an exclusive lower bound.
        maximum: the largest value.
        below: an exclusive upper bound.
        example: what `sf profile init` shows for an argument without a default.
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

    def accepts(self, value: object) -> bool:
        """Return whether a value has the argument's type and lies within its bounds."""
        if self.type in (bool, str):
            is_line = not isinstance(value, str) or (
                value != "" and _CONTROL_CHARACTERS.isdisjoint(value)
            )
            return isinstance(value, self.type) and is_line
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
        """What the argument takes, in words."""
        if self.type is bool:
            return "true or false"
        if self.type is str:
            return "text on one line that is not empty"
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
        name: how profiles, events and the implementation call it; the default action's name too.
        help: what it does, a phrase.
        arguments: what it takes.
        settings: the profile's table with the values of arguments that are given nowhere else.
        key: the default action's key; empty for none.
        may_have_key: whether a profile can give it a key.
        doing: the word for its work, where that takes a while.
        confirm: whether the console asks first.
        typed_yes: whether the console wants a typed yes, because it discards work.
        consequence: returns what will happen to the weights, from the arguments; for the
            confirmation.
        purpose: what it does against a drop: `protect`, `recover`, `test` or `go back`. The
            console suggests ops by purpose. Empty: it is not suggested.
        turns_on: the state of the run that it turns on: `frozen`, `anchored`, `paused`.
        turns_off: the state that it turns off. Refused while that state is off.
        inverse: the op that undoes it.
        changes_weights: whether it changes the weights in place, other than by a training step. The
            worker then saves a checkpoint before it and probes after it, and a verdict from before
            is void.
        replayed: whether a resume applies it again at its step. Needed where the steps that follow
            depend on it.
        ends_step: whether the commands that follow must be read only after it.
        interrupts: whether it acts while another command is at work.
        needs_old_task: whether a watched task must have been learned before the stage.
        edit: whether it edits weights in one pass, without data and without steps.
        after_end: the `sf` command that does it when the run has ended, with `{run}`.
        result_event: the event that carries its result; charts then mark that event.
        charted: whether charts mark where it was done.
        footer_rank: place in the console's footer; the lowest is shown first.
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
    inverse: str = ""
    changes_weights: bool = False
    replayed: bool = False
    ends_step: bool = False
    interrupts: bool = False
    needs_old_task: bool = False
    edit: bool = False
    after_end: str = ""
    result_event: str = ""
    charted: bool = True
    footer_rank: int = 100

    def argument(self, name: str) -> Argument | None:
        """Return the argument of a name, or None."""
        return next((argument for argument in self.arguments if argument.name == name), None)

    @property
    def argument_names(self) -> tuple[str, ...]:
        """The names of its arguments."""
        return tuple(argument.name for argument in self.arguments)

    @property
    def defaults(self) -> dict[str, Any]:
        """The default of each argument."""
        return {argument.name: argument.default for argument in self.arguments}
