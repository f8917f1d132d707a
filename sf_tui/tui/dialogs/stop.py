"""Asks before the run is stopped."""

from __future__ import annotations

from collections.abc import Callable

from sf_tui.tui.actions import Action
from sf_tui.tui.dialogs.dialog import Dialog, keys_line
from sf_tui.tui.lines import Line
from sf_tui.tui.view_state import ViewState


class StopDialog(Dialog[Action]):
    """Gives back the action when `yes` was typed in full.

    Args:
        view: the console's.
        steady_clock: seconds that only ever rise.
        action: the stop action of the profile.
    """

    TAKES_TEXT = True

    def __init__(self, view: ViewState, steady_clock: Callable[[], float], action: Action) -> None:
        super().__init__(view, steady_clock)
        self._action = action

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the question."""
        del width, height
        stage = self.view.live.stage
        where = f" at {stage.name}@{stage.step} of {stage.steps}" if stage else ""
        run = self.view.run.id
        return [
            [("End the run", "danger"), (f"{where}?", "text")],
            [(f"run {run}", "muted")],
            [],
            [("It saves a checkpoint and ends; ", "text"), (f"sf resume {run}", "strong")],
            [("goes on from there. To leave only the console, press q instead.", "text")],
            [],
            self.typing_line("type yes and press enter: "),
            keys_line(("esc", "leave it running")),
        ]

    def answer(self) -> None:
        """End the run, if `yes` was typed."""
        if self.typed.strip() == "yes":
            self.dismiss(self._action)
