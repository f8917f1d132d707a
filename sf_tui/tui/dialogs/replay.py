"""The dialog that asks before an action that is pressed in replay acts on the run as it is now."""

from __future__ import annotations

from collections.abc import Callable

from sf_tui.tui.actions import Action, action_help
from sf_tui.tui.dialogs.dialog import Dialog, keys_lines
from sf_tui.tui.lines import Line, wrap_cells
from sf_tui.tui.view_state import ViewState


class LeaveReplayDialog(Dialog[Action]):
    """Returns its action if the operator confirms that it acts on the run as it is now.

    Args:
        view: the console's, with a replay cursor.
        steady_clock: monotonic seconds.
        action: the action.
    """

    def __init__(self, view: ViewState, steady_clock: Callable[[], float], action: Action) -> None:
        super().__init__(view, steady_clock)
        self._action = action
        place, stage = view.place, view.newest.stage
        self._shown = f"{place.stage}, step {place.step}" if place else "the past"
        self._now = f"at {stage.name}, step {stage.step}" if stage else "as it is now"

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return what is on the screen and what the action would act on."""
        sentences = (
            f"The screen shows the run at {self._shown}. "
            f"{self._action.label} acts on the run {self._now}.",
            f"{self._action.label}: {action_help(self._action)}",
        )
        text: list[Line] = [[(f"Back to the present, and {self._action.label}?", "strong")]]
        for sentence in sentences:
            text += [[(line, "text")] for line in wrap_cells(sentence, width)]
        keys = [("y", f"{self._action.label} now"), ("n or esc", "stay in replay")]
        return self.with_foot([*text, []], keys_lines(keys, width), height)

    def press(self, key: str) -> None:
        """Confirm with `y`, cancel with `n`, scroll with the arrows."""
        self.scroll(key)
        if key in {"y", "n"}:
            self.dismiss(self._action if key == "y" else None)
