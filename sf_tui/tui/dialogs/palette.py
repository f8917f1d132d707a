"""The palette: finds any action of the profile and any command of the console by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sf_tui.tui.actions import Action, RunActions
from sf_tui.tui.dialogs.dialog import Dialog, keys_line
from sf_tui.tui.keys import CONSOLE_KEYS, action_help, shown_key
from sf_tui.tui.lines import Line, as_many_as_fit
from sf_tui.tui.view_state import ViewState

_ROWS = 12


@dataclass(frozen=True)
class Choice:
    """One thing the palette can do: an action of the profile, or a command of the console."""

    label: str
    help: str
    key: str
    action: Action | None = None
    command: str = ""


class PaletteDialog(Dialog[Choice]):
    """Gives back what was chosen."""

    TAKES_TEXT = True
    WIDTH = 92

    def __init__(self, view: ViewState, steady_clock: Callable[[], float]) -> None:
        super().__init__(view, steady_clock)
        self._choices = choices(view.actions)
        self._chosen = 0

    @property
    def matching(self) -> Sequence[Choice]:
        """The choices whose name or help contains every word that was typed."""
        words = self.typed.lower().split()
        found = [
            choice
            for choice in self._choices
            if all(word in f"{choice.label} {choice.help}".lower() for word in words)
        ]
        # Those whose name begins with what was typed come first.
        return sorted(
            found, key=lambda choice: not choice.label.lower().startswith(self.typed.lower())
        )

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the line to type into and what fits it."""
        matching = self.matching
        rows = max(min(_ROWS, height - 4), 1)
        first = min(max(self._chosen - rows + 1, 0), max(len(matching) - rows, 0))
        lines: list[Line] = [self.typing_line(": "), []]
        for index in range(first, min(first + rows, len(matching))):
            lines.append(self._row(matching[index], index == self._chosen, width))
        if not matching:
            lines.append([("nothing of that name", "muted")])
        lines += [[] for _ in range(rows + 2 - len(lines))]
        more = len(matching) - first - rows
        tail = f"{more} more below" if more > 0 else ""
        return [
            *lines,
            [
                *keys_line(("up down", "choose"), ("enter", "do it"), ("esc", "leave")),
                (f"   {tail}", "muted"),
            ],
        ]

    def _row(self, choice: Choice, chosen: bool, width: int) -> Line:
        role = "selected" if chosen else "text"
        pointer = self.view.glyphs.pointer if chosen else " "
        line: Line = [
            (f"{pointer} {choice.label:<16.16} ", role),
            (f"{shown_key(choice.key):<6}", "key"),
            (choice.help, "muted"),
        ]
        return as_many_as_fit([line], width) or [*line[:2], (choice.help[: width - 26], "muted")]

    def typed_changed(self) -> None:
        """Choose the first that fits."""
        self._chosen = 0

    def press(self, key: str) -> None:
        """Choose another."""
        step = {"up": -1, "down": 1, "tab": 1, "shift+tab": -1}.get(key, 0)
        self._chosen = min(max(self._chosen + step, 0), max(len(self.matching) - 1, 0))
        self.refresh_text()

    def answer(self) -> None:
        """Do what is chosen."""
        matching = self.matching
        if matching:
            self.dismiss(matching[self._chosen])


def choices(actions: RunActions) -> list[Choice]:
    """Return all that the palette offers: the profile's actions first."""
    return [
        *(
            Choice(action.label, action_help(action), action.key, action=action)
            for action in actions.actions
        ),
        *(
            Choice(entry.label, entry.help, entry.keys[0], command=entry.command)
            for entry in CONSOLE_KEYS
            if entry.command != "palette"
        ),
    ]
