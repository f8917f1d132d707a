"""Asks before an action that the profile marks with `confirm`."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import wrap

from sf_tui.tui.actions import Action, RunActions
from sf_tui.tui.dialogs.dialog import Dialog, keys_line
from sf_tui.tui.keys import action_help, shown_key
from sf_tui.tui.lines import Line
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.ops import GO_BACK, op_named, ops_for


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
        lines = [line for sentence in sentences for line in wrap(sentence, max(width, 20))]
        return [
            [(f"{self._action.label}?", "strong")],
            *([(line, "text")] for line in lines),
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


def consequences(action: Action, actions: RunActions) -> list[str]:
    """Return what an action does to the run's weights and how to undo it; empty for most ops."""
    op = op_named(action.op)
    if op.consequence is None:
        return []
    settings = actions.repair if op.settings == "recover" else {}
    sentences = list(op.consequence({**op.defaults, **settings, **action.arguments}))
    rollback = next(filter(None, map(actions.of_op, ops_for(GO_BACK))), None)
    key = f" ({shown_key(rollback.key)})" if rollback is not None and rollback.key else ""
    return [*sentences, f"To undo it, rollback{key} goes back to a checkpoint from before it."]
