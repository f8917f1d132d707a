"""Dialogs that look something up: the palette and the filter.

They return the choice or the text and change nothing themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sf_tui.run.liveness import WorkerState
from sf_tui.tui.actions import CONSOLE_KEYS, Action, action_help, shown_key
from sf_tui.tui.activity import Kind
from sf_tui.tui.dialogs.dialog import Dialog, keys_line
from sf_tui.tui.lines import Line, as_many_as_fit
from sf_tui.tui.view_state import ViewState
from sf_tui.tui.worker_log import line_contains
from sf_tui.vocabulary.ops import op_named
from sf_tui.vocabulary.sizes import counted

_ROWS = 12


@dataclass(frozen=True)
class Choice:
    """One entry of the palette: an action of the profile or a command of the console."""

    label: str
    help: str
    key: str
    action: Action | None = None
    command: str = ""


class PaletteDialog(Dialog[Choice]):
    """Finds an action or command by name and returns the chosen one."""

    TAKES_TEXT = True
    WIDTH = 92

    def __init__(self, view: ViewState, steady_clock: Callable[[], float]) -> None:
        super().__init__(view, steady_clock)
        self._choices = choices(view)
        self._chosen = 0

    @property
    def matching(self) -> Sequence[Choice]:
        """The choices whose name or help contains every typed word."""
        words = self.typed.lower().split()
        found = [
            choice
            for choice in self._choices
            if all(word in f"{choice.label} {choice.help}".lower() for word in words)
        ]
        # Names that start with the typed text come first.
        return sorted(
            found, key=lambda choice: not choice.label.lower().startswith(self.typed.lower())
        )

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the input line and the matching choices."""
        matching = self.matching
        rows = max(min(_ROWS, height - 4), 1)
        first = min(max(self._chosen - rows + 1, 0), max(len(matching) - rows, 0))
        lines: list[Line] = [self.typing_line(": "), []]
        for index in range(first, min(first + rows, len(matching))):
            lines.append(self._row(matching[index], index == self._chosen, width))
        if not matching:
            lines.append([("no match", "muted")])
        lines += [[] for _ in range(rows + 2 - len(lines))]
        more = len(matching) - first - rows
        tail = f"{more} more below" if more > 0 else ""
        return [
            *lines,
            [
                *keys_line(("up down", "choose"), ("enter", "run it"), ("esc", "close")),
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
        """Select the first match."""
        self._chosen = 0

    def press(self, key: str) -> None:
        """Move the selection."""
        step = {"up": -1, "down": 1, "tab": 1, "shift+tab": -1}.get(key, 0)
        self._chosen = min(max(self._chosen + step, 0), max(len(self.matching) - 1, 0))
        self.refresh_text()

    def answer(self) -> None:
        """Return the selected choice."""
        matching = self.matching
        if matching:
            self.dismiss(matching[self._chosen])


def choices(view: ViewState) -> list[Choice]:
    """Return what can be done now: the profile's actions first, then the console's own commands."""
    return [
        *(
            Choice(action.label, action_help(action), action.key, action=action)
            for action in view.offered.actions
            if _is_possible(view, action)
        ),
        *(
            Choice(entry.label, entry.help, entry.keys[0], command=entry.command)
            for entry in CONSOLE_KEYS
            if entry.command != "palette"
        ),
    ]


def _is_possible(view: ViewState, action: Action) -> bool:
    """Return whether a worker could do it, or a command that the console can name."""
    if view.read_only or view.liveness.state is WorkerState.DEAD:
        return False
    if view.liveness.state is WorkerState.FINISHED:
        return bool(op_named(action.op).after_end)
    return True


class FilterDialog(Dialog[str]):
    """Returns the text that events and lines of the worker's log must contain; empty for all."""

    TAKES_TEXT = True

    def __init__(self, view: ViewState, steady_clock: Callable[[], float]) -> None:
        super().__init__(view, steady_clock)
        self.typed = view.event_filter

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the input line, the number of matches, and the event kinds."""
        del width, height
        view = self.view
        matching = sum(row.contains(self.typed.lower()) for row in view.live.activity.rows)
        lines = sum(line_contains(line, self.typed) for line in view.log_lines)
        events = f"{matching} of {counted(len(view.live.activity.rows), 'event')}"
        printed = counted(len(view.log_lines), "line")
        return [
            self.typing_line("show what contains: "),
            [(f"{events}, {lines} of {printed} of the worker log", "text")],
            [],
            [("kinds: ", "muted"), (" ".join(kind.value for kind in Kind), "muted")],
            keys_line(("enter", "show"), ("ctrl+u", "clear"), ("esc", "cancel")),
        ]

    def answer(self) -> None:
        """Return the typed text."""
        self.dismiss(self.typed.strip())
