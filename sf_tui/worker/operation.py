"""A command that takes a while: its progress events, and how it is cancelled.

Knows no op and no stage. `RunContext.report` passes on what it returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sf_tui.recovery.progress import Progress
from sf_tui.vocabulary.commands import Command
from sf_tui.vocabulary.operation_events import OperationProgress

EVERY_S = 1.0
_SHARE = 0.02
"""Two events are at least this share of the elapsed time apart: an hour has some 400 of them."""


class OperationCancelled(Exception):  # noqa: N818  no error: the operator asked for it
    """The operation under way was cancelled; its command is answered already."""


class Operation:
    """The operation under way.

    Args:
        command: its command, with the stage and step at which it begins.
        expected_s: how long it is expected to take, in seconds; None if unknown.
        held: why it can't be cancelled; empty if it can. It then has no events.
        beside: whether training goes on meanwhile.
        clock: monotonic seconds.

    Attributes:
        is_cancelled: whether it is to end.
    """

    def __init__(
        self,
        command: Command,
        expected_s: float | None,
        *,
        held: str = "",
        beside: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.command = command
        self.held = held
        self.is_cancelled = False
        self._expected_s = expected_s
        self._beside = beside
        self._clock = clock
        self._begun_s = clock()
        self._last_s = self._begun_s
        self._last = ("", 0)

    def announcement(self) -> OperationProgress:
        """Return the event that comes before it begins."""
        return self._event(Progress(""), 0.0)

    def progress(self, now: Progress) -> OperationProgress | None:
        """Return the event about its progress; None if the last one was just now."""
        if self.held:
            return None
        at_s = self._clock()
        is_new = (now.part, now.number) != self._last
        if not is_new and at_s - self._last_s < max(EVERY_S, _SHARE * (at_s - self._begun_s)):
            return None
        self._last_s, self._last = at_s, (now.part, now.number)
        return self._event(now, at_s - self._begun_s)

    def raise_if_cancelled(self) -> None:
        """Raise OperationCancelled if it is to end."""
        if self.is_cancelled:
            raise OperationCancelled

    def _event(self, now: Progress, elapsed_s: float) -> OperationProgress:
        left_s = now.left_s
        if left_s is None and self._expected_s is not None:
            left_s = max(self._expected_s - elapsed_s, 0.0)
        command = self.command
        return OperationProgress(
            id=command.id,
            op=command.op,
            stage=command.stage or "",
            step=command.step or 0,
            part=now.part,
            number=now.number,
            parts=now.parts,
            done=now.done,
            total=now.total,
            unit=now.unit,
            score=now.score,
            elapsed_s=round(elapsed_s, 1),
            left_s=None if left_s is None else round(left_s, 1),
            beside=self._beside,
        )
