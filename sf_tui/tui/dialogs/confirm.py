"""Dialogs that confirm an action before it is sent: by `y`, or by a typed `yes` for two ops.

Rollback and stop need the typed `yes`. The dialogs return what was confirmed and send nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from sf_tui.run.hosted import way_to_resume
from sf_tui.tui.actions import Action, action_help
from sf_tui.tui.dialogs.consequences import consequences, what_yes_does
from sf_tui.tui.dialogs.dialog import Dialog, keys_lines
from sf_tui.tui.lines import Line, as_many_as_fit
from sf_tui.tui.rollback import RollbackTarget
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.measured import format_score
from sf_tui.vocabulary.sizes import counted

_ROWS = 6
_WITH_EXAMPLES = 60
"""Least cells of a row that gives the number of examples behind each score."""


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
        """Return the question and the consequences; the keys stay in sight in a small box."""
        sentences = consequences(self._action, self.view) or [action_help(self._action)]
        lines = [line for sentence in sentences for line in wrap(sentence, max(width, 20))]
        text: list[Line] = [
            [(f"{self._action.label}?", "strong")],
            *([(line, "text")] for line in lines),
            [(f"run {self.view.run.id}{self._where}", "muted")],
            [],
        ]
        yes = what_yes_does(self._action, self.view) or "confirm"
        keys = [("y", yes), ("n or esc", "cancel")]
        return self.with_foot(text, keys_lines(keys, width), height)

    def press(self, key: str) -> None:
        """Confirm with `y`, cancel with `n`, scroll with the arrows."""
        self.scroll(key)
        if key == "y":
            self.dismiss(self._action)
        elif key == "n":
            self.dismiss(None)


def _wrapped(text: str, width: int, role: str = "muted") -> list[Line]:
    return [[(line, role)] for line in wrap(text, max(width, 20))]


def _place(view: ViewState) -> str:
    stage = view.newest.stage
    return f", asked at {stage.name}@{stage.step}" if stage else ""


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
        stage = self.view.newest.stage
        lost = max((stage.step if stage else 0) - self.target.step, 0)
        title: Line = [
            (self._action.label, "strong"),
            (f" to {self.target.stage}/", "text"),
            (self.target.name, "strong"),
            ("?", "text"),
        ]
        so_far = f"discards {counted(lost, 'step')}"
        cost: list[Line] = [[(so_far, "danger"), (", and those until you confirm.", "muted")]]
        keeps = _wrapped(
            "Weights, optimizer and data order go back; the log keeps the history.", width
        )
        keys = [("up down", "choose a checkpoint"), ("esc", "cancel")]
        foot = [*self.answer_lines(width), *keys_lines(keys, width)]
        chosen = self._scores(width)
        # The question and what answers it never give way; the rest does, the cost last.
        rows = min(len(self._targets), _ROWS, max(height - len(foot) - len(cost) - 1, 1))
        lines: list[Line] = [title, *self._rows(rows, width)]
        for part in (cost, chosen, keeps):
            if len(lines) + len(part) + len(foot) <= height:
                lines += part
        if len(lines) + len(foot) + 3 <= height:
            at = 1 + rows
            lines = [title, [], *lines[1:at], [], *lines[at:], []]
        return [*lines[: max(height - len(foot), 0)], *foot]

    def _rows(self, count: int, width: int) -> list[Line]:
        """Return a row for each of some checkpoints around the chosen one."""
        first = min(max(self._chosen - count + 1, 0), max(len(self._targets) - count, 0))
        shown = range(first, min(first + count, len(self._targets)))
        name_width = max(len(self._targets[index].name) for index in shown)
        return [self._row(index, name_width, width) for index in shown]

    def _row(self, index: int, name_width: int, width: int) -> Line:
        target = self._targets[index]
        chosen = index == self._chosen
        pointer = self.view.glyphs.pointer if chosen else " "
        role = "strong" if chosen else "text"
        line: Line = [(f"{pointer} ", "strong"), (f"{target.name:<{name_width}}", role)]
        parts: list[Line] = [line]
        if target.beside:
            parts.append([(target.beside, "muted")])
        for task in self._in_order(target):
            paint, marker = self.view.task_paint(task)
            score = target.scores[task]
            shown: Line = [(f"{marker} {task} ", paint), (format_score(score), "text")]
            # A narrow box has the examples below the list.
            if score.examples and width >= _WITH_EXAMPLES:
                shown.append((f" ({score.examples})", "text"))
            parts.append(shown)
        if not target.scores:
            parts.append([("not probed", "muted")])
        return as_many_as_fit(parts, width) or line

    def _scores(self, width: int) -> list[Line]:
        """Return the whole probe of the chosen checkpoint."""
        target = self.target
        if not target.scores:
            return []
        said = ", ".join(
            f"{task} {format_score(target.scores[task], counts=True)}"
            for task in self._in_order(target)
        )
        at = "" if target.probed_at in (None, target.step) else f", probed at {target.probed_at}"
        return _wrapped(f"{target.name}{at}: {said}", width, "text")

    def _in_order(self, target: RollbackTarget) -> list[str]:
        """Return a checkpoint's tasks: the stage's own and the one that lost most come first."""
        state = self.view.newest
        first = [state.worst_known, state.stage.task if state.stage else None]
        return sorted(
            target.scores, key=lambda task: first.index(task) if task in first else len(first)
        )

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
        if self.said_yes():
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
        """Return the question; what answers it stays in sight in a small box."""
        stage = self.view.newest.stage
        where = f" at {stage.name}@{stage.step} of {stage.steps}" if stage else ""
        run = self.view.run.id
        text: list[Line] = [
            [("End the run", "danger"), (f"{where}?", "text")],
            *_wrapped(f"run {run}", width),
            [],
            *_wrapped("It saves a checkpoint and ends. This continues it later:", width, "text"),
            *([(line, "strong")] for line in wrap(way_to_resume(self.view.run), max(width, 20))),
            *_wrapped("To leave only the console, press q instead.", width, "text"),
            [],
        ]
        foot = [*self.answer_lines(width), *keys_lines([("esc", "cancel")], width)]
        return self.with_foot(text, foot, height)

    def press(self, key: str) -> None:
        """Scroll with the arrows."""
        self.scroll(key)

    def answer(self) -> None:
        """Confirm the stop if `yes` was typed."""
        if self.said_yes():
            self.dismiss(self._action)
