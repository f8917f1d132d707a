"""The activity of a run besides measurements: one row per event worth an operator's attention.

A command is one row from request to done. Knows events and commands; knows nothing of terminals or
widths.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sf_tui.run.clock import seconds_since_epoch
from sf_tui.tui.at_risk import questions_at_risk
from sf_tui.tui.numbers import (
    format_duration,
    format_share,
    format_value,
)
from sf_tui.vocabulary.commands import ACCEPTED, DONE, FAILED, REFUSED, REQUESTED, Command
from sf_tui.vocabulary.events import (
    ASIDE,
    Alert,
    CheckpointWritten,
    CommandAnswered,
    Danger,
    DiagnosisMade,
    Event,
    LinesLost,
    Rewound,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    TasksAtRisk,
)
from sf_tui.vocabulary.ops import GO_BACK, op_named
from sf_tui.vocabulary.sizes import counted, format_bytes

CAPACITY = 2000
"""Rows kept; a run of weeks writes more checkpoints than a user would scroll through."""
_QUICK_S = 2.0
"""A command that takes longer shows its duration."""


class Kind(StrEnum):
    """The kind of an entry; charts and lists mark each kind differently."""

    RUN = "run"
    STAGE = "stage"
    DANGER = "danger"
    ACTION = "action"
    RULE = "rule"
    CHECKPOINT = "checkpoint"
    VERDICT = "verdict"
    REWIND = "rewind"
    ALERT = "alert"


@dataclass
class Entry:
    """One entry of the activity."""

    kind: Kind
    time: str
    stage: str | None
    step: int | None
    text: str
    level: str = "info"
    """info, warn or error."""
    seq: int = 0
    """Number of its first event; 0 before there is one."""
    abandoned: bool = False
    """Whether a rollback has left the branch that it is about."""
    path: str = ""
    """Folder of the checkpoint that it is about."""

    @property
    def is_rollback(self) -> bool:
        """Whether it asked for a rollback, which has an entry of its own."""
        return False

    def is_undone_by(self, event: Rewound, last_seq: int | None) -> bool:
        """Return whether a rollback takes it back.

        Args:
            event: the rollback.
            last_seq: number of the last event that the checkpoint contains; None if unknown.
        """
        if self.stage != event.stage or self.step is None or not self.seq:
            return False
        return self.step > event.step or (
            self.step == event.step and last_seq is not None and self.seq > last_seq
        )

    @property
    def asked_by(self) -> str:
        """The person or program that asked for it; empty if none did."""
        return ""

    def contains(self, text: str) -> bool:
        """Return whether a text, in small letters, occurs in the entry."""
        return text in f"{self.kind} {self.text} {self.stage} {self.asked_by}".lower()


@dataclass
class CommandRow(Entry):
    """The row of a command, updated as the worker answers."""

    command: Command = field(default_factory=lambda: Command("", ""))
    phases: list[str] = field(default_factory=list)
    """Acknowledgments so far, such as `requested`, `accepted @412`, `done`."""
    answers: list[CommandAnswered] = field(default_factory=list)
    """The worker's answers so far."""

    @property
    def is_rollback(self) -> bool:
        """Whether it asked for a rollback, which has an entry of its own."""
        return op_named(self.command.op).purpose == GO_BACK

    def is_undone_by(self, event: Rewound, last_seq: int | None) -> bool:
        """Return whether a rollback takes its effect back; itself it does not."""
        op = op_named(self.command.op)
        if self.command.is_pending or self.is_rollback or not self.answers:
            return False
        if self.stage != event.stage or self.step is None:
            return False
        # Saving at the checkpoint's own step is what made the checkpoint.
        return self.step > event.step or (
            self.step == event.step
            and last_seq is not None
            and op.charted
            and self.answers[-1].seq > last_seq
        )

    @property
    def asked_by(self) -> str:
        """The command's sender; empty for a rule, which the text names."""
        return "" if self.command.by_rule else self.command.sender

    @property
    def doing(self) -> str:
        """The worker's long-running work for it; empty if there is none."""
        return op_named(self.command.op).doing if self.command.status == ACCEPTED else ""

    def answer(self, event: CommandAnswered) -> None:
        """Add an answer of the worker."""
        command = self.command
        command.update(event)
        self.answers.append(event)
        self.seq = self.seq or event.seq
        self.stage, self.step = command.stage, command.step
        status = command.status
        phase = f"{status} @{event.step}" if event.step is not None else status
        if self.phases and phase.removeprefix(DONE) == self.phases[-1].removeprefix(ACCEPTED):
            phase = status
        if not command.is_pending and command.accepted:
            took_s = self.seconds_until(seconds_since_epoch(event.time) or 0.0)
            phase += f" in {format_duration(took_s)}" if took_s > _QUICK_S else ""
        self.phases.append(phase)
        if command.reason:
            self.phases[-1] += f" ({command.reason})"
        if status in {REFUSED, FAILED}:
            self.level = "error"
        _spell(self)

    def until(self, seq: int) -> CommandRow | None:
        """Return the row as it was after an event; None if the worker had not read it."""
        then = [answer for answer in self.answers if answer.seq <= seq]
        if len(then) == len(self.answers):
            return self if then else None
        if not then:
            return None
        was, asked = self.command, self.phases[: len(self.phases) - len(self.answers)]
        command = Command(was.id, was.action, by=was.by, requested=was.requested)
        command.value = was.value
        row = CommandRow(self.kind, self.time, None, None, "", command=command, phases=list(asked))
        row.abandoned = self.abandoned
        for answer in then:
            row.answer(answer)
        return row

    @property
    def is_under_way(self) -> bool:
        """Whether the worker has not answered finally."""
        return self.command.is_pending

    def seconds_until(self, now_s: float) -> float:
        """Return how long the worker has been executing it."""
        began = seconds_since_epoch(self.command.accepted)
        return 0.0 if began is None else max(now_s - began, 0.0)


class ActivityLog:
    """The newest entries, oldest first.

    Attributes:
        rows: the entries.
        notable: alerts and verdicts, also those that `rows` no longer has.
        commands: the rows of commands by id, in order of arrival.
        version: rises with every change, including updates of a row.
    """

    def __init__(self) -> None:
        self.rows: deque[Entry] = deque(maxlen=CAPACITY)
        self.commands: dict[str, CommandRow] = {}
        self.notable: deque[Entry] = deque(maxlen=50)
        self.version = 0

    def add(self, event: Event, more: str = "") -> None:
        """Fold one event in; event types without a row are ignored.

        Args:
            event: the event.
            more: what else happened with it, appended to its text.
        """
        if isinstance(event, CommandAnswered):
            self._add_command(event)
            return
        if isinstance(event, CheckpointWritten) and ASIDE in event.path:
            self._rename_checkpoint(event.path)
            return
        described = _describe(event)
        if described is not None:
            kind, text, level = described
            path = event.path if isinstance(event, CheckpointWritten) else ""
            self._append(
                Entry(
                    kind,
                    event.time,
                    # Events of the whole run have no stage or step.
                    getattr(event, "stage", None),
                    getattr(event, "step", None),
                    text + more,
                    level,
                    event.seq,
                    path=path,
                )
            )

    def abandon(self, event: Rewound, last_seq: int | None) -> None:
        """Mark the entries that a rollback takes back.

        Args:
            event: the rollback.
            last_seq: number of the last event that the checkpoint contains; None if unknown.
        """
        for row in self.rows:
            if not row.abandoned and row.is_undone_by(event, last_seq):
                row.abandoned = True
        self.version += 1

    def until(self, seq: int) -> ActivityLog:
        """Return the activity as it was after an event; damage of the log is always in it."""
        past = ActivityLog()
        for row in self.rows:
            if isinstance(row, CommandRow):
                then = row.until(seq)
                if then is not None:
                    past.rows.append(then)
                    past.commands[then.command.id] = then
            elif row.seq <= seq:
                past.rows.append(row)
        past.notable.extend(row for row in self.notable if row.seq <= seq)
        past.version = self.version
        return past

    def add_request(self, line: dict[str, Any]) -> None:
        """Add a line of the command log, which the worker may not have read yet."""
        command = Command.from_line(line)
        if command.id not in self.commands:
            value = line.get("value")
            command.value = value if isinstance(value, int | float) else None
            self._open_command(command, requested=True)

    def newest_command(self, action: str | None = None) -> CommandRow | None:
        """Return the newest command, or the newest of one action."""
        for row in reversed(self.commands.values()):
            if action is None or row.command.action == action:
                return row
        return None

    def worked_on(self) -> CommandRow | None:
        """Return the command whose long-running work the worker is doing."""
        return next((row for row in reversed(self.commands.values()) if row.doing), None)

    def _rename_checkpoint(self, path: str) -> None:
        """Follow a checkpoint that was put aside to its new folder."""
        base = path.rpartition(ASIDE)[0]
        row = next((row for row in reversed(self.rows) if row.path == base), None)
        if row is not None:
            row.path = path

    def _append(self, row: Entry) -> None:
        self.rows.append(row)
        if row.kind in {Kind.ALERT, Kind.VERDICT}:
            self.notable.append(row)
        self.version += 1

    def _add_command(self, event: CommandAnswered) -> None:
        row = self.commands.get(event.id)
        if row is None:
            command = Command.from_event(event)
            row = self._open_command(command, requested=False)
        row.answer(event)
        self.version += 1

    def _open_command(self, command: Command, *, requested: bool) -> CommandRow:
        row = CommandRow(
            Kind.RULE if command.by_rule else Kind.ACTION,
            command.requested,
            None,
            None,
            "",
            command=command,
            phases=[REQUESTED] if requested or not command.by_rule else [],
        )
        _spell(row)
        self.commands[command.id] = row
        while len(self.commands) > CAPACITY:
            del self.commands[next(iter(self.commands))]
        self._append(row)
        return row


def _describe(event: Event) -> tuple[Kind, str, str] | None:
    """Return an event's kind, text and level; None for one without a row."""
    match event:
        case RunStarted():
            layers = f", {counted(event.model.layers, 'block')}" if event.model.layers else ""
            device = event.device or "an unknown device"
            return Kind.RUN, f"run started on {device}{layers}", "info"
        case StageStarted():
            beside = f", watched: {', '.join(event.known)}" if event.known else ""
            what = f"task {event.task}, {counted(event.steps, 'step')}{beside}"
            return Kind.STAGE, f"stage {event.stage} begins: {what}", "info"
        case StageFinished():
            return Kind.STAGE, f"stage {event.stage} is done", "info"
        case Danger():
            steps = f" ({counted(event.window, 'step')})" if event.window else ""
            entered = event.state == "entered"
            text = f"danger window {'entered' if entered else 'left'}{steps}"
            return Kind.DANGER, text, "warn" if entered else "info"
        case TasksAtRisk():
            return Kind.DANGER, _spell_risk(event), "info"
        case Alert() | LinesLost():
            return Kind.ALERT, event.text, event.level
        case CheckpointWritten():
            size = f", {format_bytes(event.bytes)}" if event.bytes else ""
            name = f"{event.stage}/step-{event.step:06d}"
            if event.path.startswith("/"):
                # Another program wrote it, under a name of its own.
                name = event.path.rpartition("/")[2]
            if event.is_aside:
                aside = event.path.rpartition("/")[2]
                return Kind.CHECKPOINT, f"checkpoint {name} put aside as {aside}", "info"
            name = name if name.startswith("checkpoint-") else f"checkpoint {name}"
            return Kind.CHECKPOINT, f"{name}{size}", "info"
        case Rewound():
            lost = f"{counted(event.lost, 'step')} lost"
            return Kind.REWIND, f"back to step {event.step} ({event.reason}): {lost}", "warn"
        case DiagnosisMade():
            text = (
                f"verdict {event.verdict}: now {format_share(event.now)}, "
                f"after the recovery test {format_share(event.recovered)}{_spell_share(event)}"
            )
            return Kind.VERDICT, text, "info"
        case RunFinished():
            reason = f": {event.reason}" if event.reason else ""
            text = f"run {event.status.replace('_', ' ')}, exit code {event.exit_code}{reason}"
            return Kind.RUN, text, "info" if event.status == "completed" else "error"
    return None


def _spell_risk(event: TasksAtRisk) -> str:
    questions = questions_at_risk(event)
    if not questions:
        return "no other task's questions are likely beside the new ones"
    others = f" (1 of {len(questions)} candidates)" if len(questions) > 1 else ""
    return f"at risk: {questions[0]}{others}"


def _spell_share(event: DiagnosisMade) -> str:
    share, interval = event.spurious_share, event.interval
    if share is None or not interval:
        return ""
    low, high = interval
    between = f"{format_share(low)} to {format_share(high)}"
    return f"; spurious share {format_share(share)} ({between})"


def _spell(row: CommandRow) -> None:
    command = row.command
    phases = " > ".join(row.phases)
    if command.by_rule:
        value = "" if command.value is None else f" at {format_value(command.value)}"
        row.text = f"{command.action} by {command.sender}{value}: {phases}"
        return
    row.text = f"{command.action}: {phases}"
