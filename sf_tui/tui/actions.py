"""What an operator can do: the profile's actions, the console's own keys, and sending commands.

Reads the run's resolved profile. The key table is the only one: footer, help, palette and dispatch
read it, so they can't differ. Decides whether an action may be sent now; the worker decides whether
to execute it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sf_tui.errors import RunError
from sf_tui.run.closing import ALERT_DROP, alert_drop_of
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import read_regular
from sf_tui.run.hosted import host_name
from sf_tui.run.liveness import WorkerState
from sf_tui.run.next_steps import command_instead, why_no_worker
from sf_tui.tui.live_state import LiveState
from sf_tui.vocabulary.ops import PAUSED, op_named

DEBOUNCE_S = 0.6
"""A held key repeats 30 times a second; a press acts only after a pause of this length."""
ANCHOR_STRENGTH = 1.0
"""Default of [anchor] strength."""
_SHOWN_KEYS = {"escape": "esc", "pageup": "pgup", "pagedown": "pgdn"}
NEXT_TASK_KEY = "w"
"""Chooses the task whose curves of pinned runs are drawn."""
_OWN_KEYS = {"op", "key", "label", "confirm"}


@dataclass(frozen=True)
class Action:
    """One action of the profile."""

    name: str
    op: str
    key: str
    label: str
    confirm: bool
    arguments: dict[str, Any] = field(hash=False)

    @property
    def needs_typed_yes(self) -> bool:
        """Whether it discards work and therefore needs a typed `yes`."""
        return op_named(self.op).typed_yes


@dataclass(frozen=True)
class RunActions:
    """The actions of a run's profile and the settings they default to.

    Attributes:
        actions: in the profile's order.
        alert_drop: drop at which the danger strip suggests one.
        anchor_strength: default strength of an anchor.
        recover: the profile's [recover], the defaults of a recover.
        beside: [diagnose] beside, the default of a diagnose.
        undecided_s: [diagnose] time, for which a diagnose goes on while it is undecided; None if
            the profile doesn't say.
        problem: why there are no actions; empty if there are.
    """

    actions: Sequence[Action] = ()
    alert_drop: float = ALERT_DROP
    anchor_strength: float = ANCHOR_STRENGTH
    recover: dict[str, Any] = field(default_factory=dict, hash=False)
    problem: str = ""
    beside: bool = False
    undecided_s: float | None = None

    def longest_s(self, action: Action) -> float | None:
        """Return how long an action goes on while its outcome is open; None if that is unknown."""
        if op_named(action.op).argument("time") is None:
            return None
        own = action.arguments.get("time")
        return self.undecided_s if own is None else float(own)

    def runs_beside(self, action: Action) -> bool:
        """Return whether an action lets training go on while it is carried out."""
        own = action.arguments.get("beside")
        is_able = op_named(action.op).argument("beside") is not None
        return is_able and bool(self.beside if own is None else own)

    def without(self, ops: Mapping[str, str]) -> RunActions:
        """Return the actions without those of some ops."""
        return replace(self, actions=[one for one in self.actions if one.op not in ops])

    def named(self, name: str) -> Action | None:
        """Return the action with this name."""
        return next((action for action in self.actions if action.name == name), None)

    def of_op(self, op: str) -> Action | None:
        """Return the first action of an op."""
        return next((action for action in self.actions if action.op == op), None)

    def of_key(self, key: str) -> Action | None:
        """Return the action bound to a key."""
        return next((action for action in self.actions if action.key and action.key == key), None)


def read_actions(run: RunDirectory) -> RunActions:
    """Read the actions of a run from its resolved profile; none if that is unreadable."""
    try:
        profile = tomllib.loads(read_regular(run.profile).decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return RunActions(problem=f"no actions: {run.profile.name} can't be read: {error}")
    actions = []
    for name, table in profile.get("actions", {}).items():
        if not isinstance(table, dict) or "op" not in table:
            continue
        op = str(table["op"])
        actions.append(
            Action(
                name=name,
                op=op,
                # Stopping is never bound to a single key, even if a file binds it.
                key=str(table.get("key") or "") if op_named(op).may_have_key else "",
                label=str(table.get("label") or name),
                confirm=bool(table.get("confirm", False)),
                arguments={key: value for key, value in table.items() if key not in _OWN_KEYS},
            )
        )
    problem = "" if actions else f"no actions: {run.profile.name} names none"
    strength = profile.get("anchor", {}).get("strength", ANCHOR_STRENGTH)
    recover = profile.get("recover", {})
    diagnose = profile.get("diagnose", {})
    return RunActions(
        actions,
        alert_drop_of(profile),
        float(strength),
        recover,
        problem,
        beside=diagnose.get("beside") is True,
        undecided_s=diagnose.get("time"),
    )


class ActionSender:
    """Sends the operator's actions to the worker, or returns why that is not possible.

    Args:
        run: the run whose worker receives them.
        actions: the profile's.
        read_only: send nothing at all.
        steady_clock: monotonic seconds, for debouncing.
    """

    def __init__(
        self,
        run: RunDirectory,
        actions: RunActions,
        *,
        read_only: bool,
        steady_clock: Callable[[], float],
    ) -> None:
        self.run = run
        self.actions = actions
        self.read_only = read_only
        self._clock = steady_clock
        self._last_press: dict[str, float] = {}

    def is_repeat(self, key: str) -> bool:
        """Record a press of an action's key and return whether it repeats a held key."""
        now = self._clock()
        before = self._last_press.get(key)
        self._last_press[key] = now
        return before is not None and now - before < DEBOUNCE_S

    def why_not(self, state: WorkerState, action: Action | None = None, status: str = "") -> str:
        """Return why an action can't be sent now and what to do; empty if it can.

        Args:
            state: of the worker.
            action: the action; None for any.
            status: how the run ended; empty if it did not.
        """
        if self.read_only:
            return f"read-only: nothing is sent; `sf attach {self.run.id}` can act"
        if state in {WorkerState.FINISHED, WorkerState.DEAD}:
            after = op_named(action.op).after_end if action is not None else ""
            instead = command_instead(self.run.id, status, after, host_name(self.run))
            return f"{why_no_worker('the run', state, status)}; {instead}"
        return ""

    def resolve_toggle(self, action: Action, live: LiveState) -> Action:
        """Return the action to send: a pause of a paused (or pausing) run becomes a resume."""
        op = op_named(action.op)
        resume = self.actions.of_op(op.inverse)
        if op.turns_on != PAUSED or resume is None:
            return action
        newest = next(
            (
                row.command
                for row in reversed(live.activity.commands.values())
                if row.command.is_pending
                and self._op_of(row.command.action) in {op.name, op.inverse}
            ),
            None,
        )
        if newest is not None:
            return resume if self._op_of(newest.action) == op.name else action
        return resume if live.paused else action

    def send(self, action: Action, arguments: dict[str, Any] | None = None) -> str:
        """Request an action from the worker and return the command's id.

        Raises:
            RunError: the console is read-only, or the command log can't be written.
        """
        if self.read_only:
            raise RunError(self.why_not(WorkerState.ALIVE))
        return request_command(self.run, action.name, arguments)

    def _op_of(self, name: str) -> str:
        action = self.actions.named(name)
        return action.op if action is not None else ""


@dataclass(frozen=True)
class ConsoleKey:
    """A key reserved for the console.

    Attributes:
        keys: names of the keys.
        command: name of the console's own command.
        label: what it does, in a word or two.
        help: what it does, in a sentence.
        footer: whether the footer shows it.
        yields: an action of the profile may have the key; then the console does without.
        moves: it only moves what is seen, so that it needs no pause before and after it.
    """

    keys: tuple[str, ...]
    command: str
    label: str
    help: str
    footer: bool = False
    yields: bool = False
    moves: bool = False


CONSOLE_KEYS: tuple[ConsoleKey, ...] = (
    ConsoleKey(("q",), "leave", "leave", "leave the console; the run keeps running", footer=True),
    ConsoleKey(("?",), "help", "help", "list the keys and signs", footer=True),
    ConsoleKey(
        (":",), "palette", "more", "find any action by name; stop is only here", footer=True
    ),
    ConsoleKey(("z",), "zoom", "zoom", "show one panel on the whole screen, or back", footer=True),
    ConsoleKey(("tab",), "next-panel", "next panel", "choose the next panel; zoomed: show it"),
    ConsoleKey(
        ("1", "2", "3", "4", "5", "6", "7", "8"),
        "panel",
        "panel",
        "choose a panel, again: zoom it; 1 accuracy, 2 loss, 3 drift, 4 matrix, 5 diagnosis, "
        "6 events, 7 log, 8 machine",
        yields=True,
    ),
    ConsoleKey(("up", "k"), "list-up", "up", "events and log: older", yields=True, moves=True),
    ConsoleKey(
        ("down", "j"), "list-down", "down", "events and log: newer", yields=True, moves=True
    ),
    ConsoleKey(("pageup",), "list-page-up", "page up", "events and log: a page older", moves=True),
    ConsoleKey(
        ("pagedown",), "list-page-down", "page down", "events and log: a page newer", moves=True
    ),
    ConsoleKey(("home",), "list-start", "oldest", "events and log: to the oldest row", moves=True),
    ConsoleKey(
        ("end", "G"),
        "list-end",
        "newest",
        "events and log: follow the newest row",
        yields=True,
        moves=True,
    ),
    ConsoleKey(("enter",), "open", "open", "events: the chosen row in full, and its step"),
    ConsoleKey(("[",), "back", "earlier", "replay: to the previous probe", moves=True),
    ConsoleKey(
        ("]",),
        "forward",
        "later",
        "replay: to the next probe; after the last one: live",
        moves=True,
    ),
    ConsoleKey(
        ("p",), "previous-mark", "previous mark", "replay: to the previous mark", moves=True
    ),
    ConsoleKey(("n",), "next-mark", "next mark", "replay: to the next mark", moves=True),
    ConsoleKey(
        ("escape",),
        "live",
        "back, cancel",
        "clear the filter, leave replay, leave the zoom, end an operation, or go to the run before",
    ),
    ConsoleKey(
        ("<",), "narrow", "closer", "charts: run, then stage, then danger window", moves=True
    ),
    ConsoleKey((">",), "widen", "wider", "charts: danger window, then stage, then run", moves=True),
    ConsoleKey(("l",), "log-scale", "log scale", "loss chart: linear or logarithmic"),
    ConsoleKey(("/",), "filter", "filter", "show only events and log lines that contain a text"),
    ConsoleKey(
        ("R",), "runs", "runs", "list all runs: open one here, or pin its curves over these"
    ),
    ConsoleKey(
        (NEXT_TASK_KEY,),
        "next-task",
        "task",
        "pinned runs: lay the curves of the next task over each other",
        yields=True,
    ),
    ConsoleKey(("e",), "answers", "answers", "what the model answers: at the start, now, repaired"),
    ConsoleKey(("s",), "screenshot", "screenshot", "save the screen as SVG in the run's folder"),
    ConsoleKey(
        ("m",), "copy", "copy", "write the values as Markdown to a file, and offer the clipboard"
    ),
    ConsoleKey(("t",), "theme", "theme", "dark or light"),
    ConsoleKey(("ctrl+l",), "redraw", "redraw", "send the whole screen again"),
    ConsoleKey(
        ("ctrl+z",), "suspend", "suspend", "stop the console, not the run; `fg` brings it back"
    ),
)
"""The console's keys. A profile can't bind those that don't yield."""


def console_key(key: str) -> ConsoleKey | None:
    """Return the console's own entry for a key."""
    return next((entry for entry in CONSOLE_KEYS if key in entry.keys), None)


def shown_key(key: str) -> str:
    """Return a key's name as shown to users."""
    return _SHOWN_KEYS.get(key, key)


def named_key(shown: str) -> str:
    """Return the name of a key that is shown to users as `shown`."""
    return next((key for key, text in _SHOWN_KEYS.items() if text == shown), shown)


def action_help(action: Action) -> str:
    """Return what an action does, whether it asks first, and its arguments, in a sentence."""
    arguments = ", ".join(f"{name} {_spelled(value)}" for name, value in action.arguments.items())
    help_ = op_named(action.op).help
    asked = "; asks first" if action.confirm and not action.needs_typed_yes else ""
    typed = "; asks for a typed yes" if action.needs_typed_yes else ""
    return f"{help_}{asked}{typed}{f' ({arguments})' if arguments else ''}"


def keyed_actions(actions: Sequence[Action]) -> list[Action]:
    """Return the actions that have a key."""
    return [action for action in actions if action.key]


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
