"""The danger windows of one stage: the steps after its start and after acts that undo protection.

The log is the only state: a window is open if the folded events say so. A resume therefore finds
the same windows, and writes none of them twice.
"""

from __future__ import annotations

from sf_tui.run.stage_state import StageState
from sf_tui.vocabulary.events import Danger
from sf_tui.vocabulary.ops import GO_BACK, op_named
from sf_tui.worker.context import RunContext


class DangerWindows:
    """Opens and closes the danger windows of one stage.

    Attributes:
        at_start: length in steps of the window at the stage's start; 0 without any.
    """

    def __init__(self, context: RunContext, stage: str, steps: int, *, has_old_tasks: bool) -> None:
        self._context = context
        self._stage = stage
        self._steps = steps
        self._length = context.profile.window.steps if has_old_tasks else 0
        self.at_start = min(self._length, steps)

    def cover(self, step: int) -> bool:
        """Return whether a step, counted from 1, is taken inside a window."""
        state = self._state
        return state is not None and state.danger_at(step - 1) is not None

    def enter_at_start(self) -> None:
        """Log once that the stage begins inside its danger window, if it has one."""
        if self.at_start:
            self._log(Danger(self._stage, "entered", 0, self.at_start))

    def arm(self, step: int, cause: str) -> None:
        """Open a window after an op; after the stage's last step there is nothing left to lose.

        Args:
            step: optimizer steps done.
            cause: the op.
        """
        length = min(self._length, self._steps - step)
        state = self._state
        # A rollback goes back to a state that already has its window, if that one is still open.
        goes_back = op_named(cause).purpose == GO_BACK
        kept = goes_back and state is not None and state.danger_at(step) is not None
        if length > 0 and not kept:
            self._log(Danger(self._stage, "entered", step, length, cause))

    def leave(self, step: int) -> None:
        """Log the end of a window that ended with this step, unless another one is open."""
        state = self._state
        ended = None if state is None else state.danger_at(step - 1)
        if state is not None and ended is not None and state.danger_at(step) is None:
            self._log(Danger(self._stage, "left", step, ended.length, ended.cause))

    @property
    def _state(self) -> StageState | None:
        return self._context.resume_log.state.stages.get(self._stage)

    def _log(self, danger: Danger) -> None:
        if not self._context.resume_log.has_danger(danger):
            self._context.log_event(danger)
