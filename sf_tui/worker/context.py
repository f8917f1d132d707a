"""State shared by all parts of a worker during a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from sf_tui.engine.prepare import PreparedRun
from sf_tui.engine.ranks import MainFailedError, Ranks
from sf_tui.engine.strategies.in_stage import Carried
from sf_tui.profile import Profile
from sf_tui.recovery.progress import Progress
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import AnyEvent, EventLog
from sf_tui.vocabulary.declared import AnswerRecord
from sf_tui.vocabulary.events import Alert
from sf_tui.worker.beside_test import BesideTest
from sf_tui.worker.checkpoints import CheckpointStore
from sf_tui.worker.inbox import CommandInbox
from sf_tui.worker.operation import Operation, OperationCancelled
from sf_tui.worker.resume_log import ResumeLog
from sf_tui.worker.rules import RuleWatch
from sf_tui.worker.stop import CommandFailedError, StopRun, StopSignals

T = TypeVar("T")

_RAISED_AGAIN: dict[str, Callable[[str], Exception]] = {
    "CommandFailedError": CommandFailedError,
    "OperationCancelled": OperationCancelled,
    "StopRun": StopRun,
}
"""What rank 0 may raise in a decision to change the course of all ranks."""


@dataclass
class RunContext:
    """A worker's state of one run."""

    run: RunDirectory
    log: EventLog
    resume_log: ResumeLog
    prepared: PreparedRun
    shelf: CheckpointStore
    commands: CommandInbox
    signals: StopSignals
    rules: RuleWatch
    sticky_frozen: list[str] = field(default_factory=list)
    """Layers frozen by an action or a rule; they stay frozen in later stages."""
    carried: Carried = field(default_factory=dict)
    """Strategy state carried from earlier stages into the next one."""
    poll_stop: Callable[[], None] | None = None
    """Carries out the commands that must not wait for an operation: a stop, a cancel, a pause."""
    operation: Operation | None = None
    """The operation under way; None between operations."""
    beside: BesideTest | None = None
    """The test that runs beside the training; None without one."""
    accuracy: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Results of the last probe, on the whole held-out splits if it was a full one."""
    probed_at: int | None = None
    """Step of that probe in its stage; None before the first one."""
    lost_since_run: dict[str, float] = field(default_factory=dict)
    """Loss of each task since the run began, at its last alert; carried into later stages."""

    @property
    def ranks(self) -> Ranks:
        """The processes that train together."""
        return self.prepared.ranks

    def decide(self, decision: Callable[[], T]) -> T:
        """Make a decision on rank 0 and return it on every rank, or raise what rank 0 raised.

        Args:
            decision: called on rank 0 only; its result must survive JSON.
        """
        try:
            return self.ranks.decide(decision)
        except MainFailedError as error:
            again = _RAISED_AGAIN.get(error.kind)
            raise error if again is None else again(error.message) from error

    @property
    def profile(self) -> Profile:
        """The run's profile."""
        return self.prepared.profile

    def stop_if_signalled(self) -> None:
        """Raise StopRun if a signal was received."""
        if self.signals.received:
            raise StopRun(f"by signal {self.signals.received}")

    def stop_if_asked(self) -> None:
        """End what is under way if a signal or a command requests it.

        Called during long operations, before each pass and after each step.

        Raises:
            StopRun: the run must stop.
            OperationCancelled: the operation was cancelled.
        """
        if self.ranks.world > 1 and not self.ranks.deciding:
            if not self.ranks.lockstep:
                # Every rank does the same work, and they meet again before the next step.
                return
            self.signals.share(self.ranks)
        self.stop_if_signalled()
        if self.poll_stop is not None:
            self.poll_stop()
        if self.operation is not None:
            self.operation.raise_if_cancelled()

    def report(self, progress: Progress) -> None:
        """Show how far the operation under way is.

        Raises:
            StopRun: the run must stop.
            OperationCancelled: the operation was cancelled.
        """
        if self.operation is not None:
            found = self.operation.progress(progress)
            if found is not None:
                self.log_event(found)
        self.stop_if_asked()

    def log_event(self, event: AnyEvent) -> AnyEvent:
        """Write an event, add it to the run's state, and return it as logged."""
        event = self.log.append(event)
        self.resume_log.add(event)
        return event

    def alert(
        self,
        level: str,
        code: str,
        message: str,
        stage: str = "",
        step: int = 0,
        task: str = "",
        *,
        again: bool = False,
        answers: Callable[[], Sequence[AnswerRecord]] = tuple,
    ) -> None:
        """Write an alert, once per stage, code and task.

        Args:
            level: `info`, `warn` or `error`.
            code: what it is about.
            message: what happened and what to do.
            stage: the stage; empty outside of any.
            step: optimizer steps done.
            task: the task that it is about; empty for none.
            again: write it once for each step and message instead. A resume that comes by that step
                again repeats the message to the letter.
            answers: returns lost answers to show; called only if the alert is written.
        """
        alert = Alert(level, code, message, stage, step, task)
        if not self.resume_log.has_alert(alert, exactly=again):
            self.log_event(replace(alert, answers=answers() if self.ranks.runs_whole else ()))
