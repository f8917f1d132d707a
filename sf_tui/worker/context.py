"""What every part of a worker shares while it plays a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sf_tui.engine.prepare import PreparedRun
from sf_tui.engine.strategies.in_stage import Carried
from sf_tui.profile import Profile
from sf_tui.run.commands import CommandTail
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import AnyEvent, EventLog
from sf_tui.vocabulary.events import Alert
from sf_tui.worker.checkpoints import CheckpointStore
from sf_tui.worker.resume_log import ResumeLog
from sf_tui.worker.rules import RuleWatch
from sf_tui.worker.stop import StopRun, StopSignals


@dataclass
class RunContext:
    """One run as its worker has it in hand."""

    run: RunDirectory
    log: EventLog
    resume_log: ResumeLog
    prepared: PreparedRun
    shelf: CheckpointStore
    commands: CommandTail
    signals: StopSignals
    rules: RuleWatch
    sticky_frozen: list[str] = field(default_factory=list)
    """Layers that an action or a rule froze; they stay frozen from stage to stage."""
    carried: Carried = field(default_factory=dict)
    """What strategies of the stages before carry into the next one."""
    poll_stop: Callable[[], None] | None = None
    """Carries out a stop in the command log ahead of the commands before it."""
    accuracy: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """What the last probe found, on the whole held-out splits where it took them."""

    @property
    def profile(self) -> Profile:
        """The run's profile."""
        return self.prepared.profile

    def stop_if_signalled(self) -> None:
        """Raise StopRun where a signal has come."""
        if self.signals.received:
            raise StopRun(f"by signal {self.signals.received}")

    def stop_if_asked(self) -> None:
        """Raise StopRun where a signal or a command wants it, in the middle of something long."""
        self.stop_if_signalled()
        if self.poll_stop is not None:
            self.poll_stop()

    def log_event(self, event: AnyEvent) -> AnyEvent:
        """Write an event, remember it, and return it as it is in the log."""
        event = self.log.append(event)
        self.resume_log.add(event)
        return event

    def alert(self, level: str, code: str, message: str, stage: str = "", step: int = 0) -> None:
        """Write an alert, once for each stage and code."""
        if not self.resume_log.has_event("alert", stage, code):
            self.log_event(Alert(level, code, message, stage, step))
