"""Dialogs that confirm an action before it is sent: by `y`, or by a typed `yes` for two ops.

Rollback and stop need the typed `yes`. The dialogs return what was confirmed and send nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from sf_tui.tui.actions import Action, RollbackTarget, RunActions, action_help, shown_key
from sf_tui.tui.dialogs.dialog import Dialog, keys_line
from sf_tui.tui.lines import Line
from sf_tui.tui.numbers import format_share
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.ops import GO_BACK, op_named, ops_for

_ROWS = 6


class ConfirmDialog(Dialog[Action]):
    """Returns its action when the operator confirms it.

    Args:
        view: the console's.
        steady_clock: monotonic seconds.
        action: the action to confirm; later changes on the screen don't affect it.
    """

    def __init__(self, view: ViewState, steady_clock: Callable[[], float], action: Action) -> None:
        super().__init__(view, steady_clock)
        self._action = action
        self._where = _place(view)

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the question and the consequences."""
        del height
        sentences = consequences(self._action, self.view.actions) or [action_help(self._action)]
        lines = [line for sentence in sentences for line in wrap(sentence, max(width, 20))]
        return [
            [(f"{self._action.label}?", "strong")],
            *([(line, "text")] for line in lines),
            [(f"run {self.view.run.id}{self._where}", "muted")],
            [],
            keys_line(("y", "confirm"), ("n or esc", "cancel")),
        ]

    def press(self, key: str) -> None:
        """Confirm with `y`, cancel with `n`."""
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
    settings = actions.recover if op.settings == "recover" else {}
    sentences = list(op.consequence({**op.defaults, **settings, **action.arguments}))
    rollback = next(filter(None, map(actions.of_op, ops_for(GO_BACK))), None)
    key = f" ({shown_key(rollback.key)})" if rollback is not None and rollback.key else ""
    return [*sentences, f"To undo it, rollback{key} goes back to a checkpoint from before it."]


@dataclass(frozen=True)
class Rollback:
    """A confirmed rollback."""

    action: Action
    to: str


class RollbackDialog(Dialog[Rollback]):
    """Returns the action and the checkpoint when `yes` is typed in full.

    The list of checkpoints is fixed when the dialog opens, so that the choice stays the same while
    the run continues.

    Args:
        view: the console's.
        steady_clock: monotonic seconds.
        action: the rollback action of the profile.
        targets: checkpoints to choose from, newest first; at least one.
    """

    TAKES_TEXT = True

    def __init__(
        self,
        view: ViewState,
        steady_clock: Callable[[], float],
        action: Action,
        targets: Sequence[RollbackTarget],
    ) -> None:
        super().__init__(view, steady_clock)
        self._action = action
        self._targets = list(targets)
        named = action.arguments.get("to")
        self._chosen = next(
            (index for index, target in enumerate(self._targets) if target.name == named), 0
        )

    @property
    def target(self) -> RollbackTarget:
        """The chosen checkpoint."""
        return self._targets[self._chosen]

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the question, the checkpoints, and the steps that would be lost."""
        del width, height
        stage = self.view.live.stage
        lost = max((stage.step if stage else 0) - self.target.step, 0)
        first = min(max(self._chosen - _ROWS + 1, 0), max(len(self._targets) - _ROWS, 0))
        lines: list[Line] = [
            [
                (self._action.label, "strong"),
                (f" to {self.target.stage}/", "text"),
                (self.target.name, "strong"),
                ("?", "text"),
            ],
            [],
            *(
                self._row(index, self._targets[index])
                for index in range(first, min(first + _ROWS, len(self._targets)))
            ),
            [],
            [
                (f"discards {lost} step{'' if lost == 1 else 's'}", "danger"),
                (", and those until you confirm.", "muted"),
            ],
            [("Weights, optimizer and data order go back; the log keeps the history.", "muted")],
            [],
            self.typing_line("type yes and press enter: "),
            keys_line(("up down", "choose a checkpoint"), ("esc", "cancel")),
        ]
        return lines

    def _row(self, index: int, target: RollbackTarget) -> Line:
        chosen = index == self._chosen
        line: Line = [
            (f"{self.view.glyphs.pointer if chosen else ' '} ", "strong"),
            (f"{target.name}", "strong" if chosen else "text"),
        ]
        for task, value in target.accuracy.items():
            role, marker = self.view.task_paint(task)
            line += [(f"  {marker} {task} ", role), (format_share(value), "text")]
        return line

    def press(self, key: str) -> None:
        """Choose another checkpoint and clear the typed text."""
        step = {"up": -1, "down": 1}.get(key, 0)
        chosen = min(max(self._chosen + step, 0), len(self._targets) - 1)
        if chosen != self._chosen:
            self._chosen = chosen
            self.typed = ""
        self.refresh_text()

    def answer(self) -> None:
        """Confirm the rollback if `yes` was typed."""
        if self.typed.strip() == "yes":
            self.dismiss(Rollback(self._action, self.target.name))


class StopDialog(Dialog[Action]):
    """Returns the action when `yes` is typed in full.

    Args:
        view: the console's.
        steady_clock: monotonic seconds.
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
            [("It saves a checkpoint and ends. To leave only the console, press q.", "text")],
            [("This continues it later:", "text")],
            [(f"sf resume {run}", "strong")],
            [],
            self.typing_line("type yes and press enter: "),
            keys_line(("esc", "cancel")),
        ]

    def answer(self) -> None:
        """Confirm the stop if `yes` was typed."""
        if self.typed.strip() == "yes":
            self.dismiss(self._action)
