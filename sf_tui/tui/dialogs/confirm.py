"""Asks before an action that the profile marks with `confirm`."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import wrap

from sf_tui.tui.actions import Action
from sf_tui.tui.consequences import consequences
from sf_tui.tui.dialogs.dialog import Dialog, keys_line
from sf_tui.tui.keys import action_help
from sf_tui.tui.lines import Line
from sf_tui.tui.view_state import ViewState


class ConfirmDialog(Dialog[Action]):
    """Gives back the action that it was opened with when it is confirmed.

    Args:
        view: the console's.
        steady_clock: seconds that only ever rise.
        action: what is asked about; later changes on the screen don't touch it.
    """

    def __init__(self, view: ViewState, steady_clock: Callable[[], float], action: Action) -> None:
        super().__init__(view, steady_clock)
        self._action = action
        self._where = _place(view)

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the question and what a yes would do."""
        del height
        sentences = consequences(self._action, self.view.actions) or [action_help(self._action)]
        said = [line for sentence in sentences for line in wrap(sentence, max(width, 20))]
        return [
            [(f"{self._action.label}?", "strong")],
            *([(line, "text")] for line in said),
            [(f"run {self.view.run.id}{self._where}", "muted")],
            [],
            keys_line(("y", "send it"), ("n or esc", "leave it")),
        ]

    def press(self, key: str) -> None:
        """Take `y` for yes and `n` for no."""
        if key == "y":
            self.dismiss(self._action)
        elif key == "n":
            self.dismiss(None)


def _place(view: ViewState) -> str:
    stage = view.live.stage
    return f", asked at {stage.name}@{stage.step}" if stage else ""
