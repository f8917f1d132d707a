"""The one table of keys: what the console listens to by itself, and the profile's actions.

Footer, help, palette and dispatch all read it, so that they can't differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sf_tui.tui.actions import Action
from sf_tui.vocabulary.ops import op_named


@dataclass(frozen=True)
class ConsoleKey:
    """A key that the console keeps for itself.

    Attributes:
        keys: what can be pressed.
        command: name of the console's own command.
        label: what it does, in a word or two.
        help: what it does, in a sentence.
        footer: whether the footer shows it.
    """

    keys: tuple[str, ...]
    command: str
    label: str
    help: str
    footer: bool = False


CONSOLE_KEYS: tuple[ConsoleKey, ...] = (
    ConsoleKey(("q",), "leave", "leave", "leave the console; the run goes on", footer=True),
    ConsoleKey(("?",), "help", "help", "these keys and signs", footer=True),
    ConsoleKey(
        (":",), "palette", "palette", "find any action by name; stopping is only here", footer=True
    ),
    ConsoleKey(("z",), "zoom", "zoom", "give the whole screen to a panel, or back", footer=True),
    ConsoleKey(("tab",), "next-panel", "next panel", "choose the panel that z zooms"),
    ConsoleKey(("[",), "back", "earlier", "replay: cursor to the probe before"),
    ConsoleKey(("]",), "forward", "later", "replay: cursor to the next probe, at the end live"),
    ConsoleKey(("p",), "previous-mark", "previous mark", "replay: to what happened before"),
    ConsoleKey(("n",), "next-mark", "next mark", "replay: to what happened next"),
    ConsoleKey(("escape",), "live", "live", "replay: back to the newest step"),
    ConsoleKey(("<",), "narrow", "closer", "charts: run, then stage, then danger window"),
    ConsoleKey((">",), "widen", "wider", "charts: danger window, then stage, then run"),
    ConsoleKey(("l",), "log-scale", "log scale", "loss chart: linear or logarithmic"),
    ConsoleKey(("/",), "filter", "filter", "show only events that contain a text"),
    ConsoleKey(("s",), "screenshot", "screenshot", "save the screen as SVG beside the run"),
    ConsoleKey(("m",), "copy", "copy", "copy the values as Markdown: clipboard and a file"),
    ConsoleKey(("t",), "theme", "theme", "dark or light"),
)
"""The keys that no profile can take."""


def console_command(key: str) -> str | None:
    """Return the console's own command for a key."""
    for entry in CONSOLE_KEYS:
        if key in entry.keys:
            return entry.command
    return None


def shown_key(key: str) -> str:
    """Return a key as people write it."""
    return {"escape": "esc"}.get(key, key)


def action_help(action: Action) -> str:
    """Return what an action does, whether it asks first, and its arguments, in a sentence."""
    arguments = ", ".join(f"{name} {_spelled(value)}" for name, value in action.arguments.items())
    help_ = op_named(action.op).help
    asked = "; asks first" if action.confirm and not action.needs_typed_yes else ""
    typed = "; wants a typed yes" if action.needs_typed_yes else ""
    return f"{help_}{asked}{typed}{f' ({arguments})' if arguments else ''}"


def keyed_actions(actions: Sequence[Action]) -> list[Action]:
    """Return the actions that have a key."""
    return [action for action in actions if action.key]


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
