"""State shared by all parts of a worker during a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sf_tui.engine.prepare import PreparedRun
from sf_tui.engine.strategies.in_stage import Carried
from sf_tui.profile import Profile
from sf_tui.run.commands import CommandTail
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import AnyEvent, EventLog
from sf_tui.vocabulary.declared import AnswerRecord
from sf_tui.vocabulary.events import Alert
from sf_tui.worker.checkpoints import CheckpointStore
from sf_tui.worker.resume_log import ResumeLog
from sf_tui.worker.rules import RuleWatch
from sf_tui.worker.stop import StopRun, StopSignals


@dataclass
class RunContext:
    """A worker's state of one run."""

    run: RunDirectory
    log: EventLog
    resume_log: ResumeLog
    prepared: PreparedRun
    shelf: CheckpointStore
    commands: CommandTail
    signals: StopSignals
    rules: RuleWatch
    sticky_frozen: list[str] = field(default_factory=list)
    """Layers frozen by an action or a rule; they stay frozen in later stages."""
    carried: Carried = field(default_factory=dict)
    """Strategy state carried from earlier stages into the next one."""
    poll_stop: Callable[[], None] | None = None
    """Executes a stop in the command log ahead of earlier commands."""
    accuracy: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Results of the last probe, on the whole held-out splits if it was a full one."""
    probed_at: int | None = None
    """Step of that probe in its stage; None before the first one."""
    lost_since_run: dict[str, float] = field(default_factory=dict)
    """Loss of each task since the run began, at its last alert; carried into later stages."""

    @property
    def profile(self) -> Profile:
        """The run's profile."""
        return self.prepared.profile

    def stop_if_signalled(self) -> None:
        """Raise StopRun if a signal was received."""
        if self.signals.received:
            raise StopRun(f"by signal {self.signals.received}")

    def stop_if_asked(self) -> None:
        """Raise StopRun if a signal or a command requests it; called during long operations."""
        self.stop_if_signalled()
        if self.poll_stop is not None:
            self.poll_stop()

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
            self.log_event(replace(alert, answers=answers()))
