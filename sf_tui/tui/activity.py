"""The activity of a run besides measurements: one row for each thing worth an operator's attention.

A command is one row from request to done. Knows events and commands; knows nothing of terminals or
widths.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sf_tui.tui.frames import frames_at_risk
from sf_tui.tui.numbers import (
    format_bytes,
    format_duration,
    format_share,
    format_value,
    seconds_since_epoch,
)
from sf_tui.vocabulary.events import (
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

CAPACITY = 2000
"""Rows kept; a run of weeks has more checkpoints than anyone scrolls through."""
WORKING = {
    "anchor": "anchoring",
    "diagnose": "diagnosing",
    "recover": "recovering",
    "shift-edit": "editing",
    "spectral-edit": "editing",
    "interpolate": "interpolating",
}
"""The ops that take a while, and what the worker is doing meanwhile."""
_QUICK_S = 2.0
"""How long an answer may take without anyone asking how long it took."""


class Kind(StrEnum):
    """What sort of thing happened; charts and lists mark each in its own way."""

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
    """One thing that happened."""

    kind: Kind
    time: str
    stage: str | None
    step: int | None
    text: str
    level: str = "info"
    """info, warn or error."""


@dataclass
class CommandRow(Entry):
    """A command and how far the worker has come with it."""

    id: str = ""
    action: str = ""
    op: str = ""
    by: str = "user"
    phases: list[str] = field(default_factory=list)
    """What was acknowledged so far, such as `requested`, `accepted @412`, `done`."""
    status: str = "requested"
    accepted: str = ""
    """When the worker took it up; empty before that."""

    @property
    def doing(self) -> str:
        """What the worker is doing for it now, if that takes a while; else empty."""
        return WORKING.get(self.op, "") if self.status == "accepted" else ""

    def seconds_until(self, now_s: float) -> float:
        """Return for how long the worker has been at it."""
        began = seconds_since_epoch(self.accepted)
        return 0.0 if began is None else max(now_s - began, 0.0)

    @property
    def is_under_way(self) -> bool:
        """Whether the worker still owes an answer."""
        return self.status in {"requested", "accepted"}


class ActivityLog:
    """The newest things that happened, oldest first.

    Attributes:
        rows: the things.
        commands: the rows of commands, by id, in the order they were seen.
        version: rises with every change, also of a row that is there.
    """

    def __init__(self) -> None:
        self.rows: deque[Entry] = deque(maxlen=CAPACITY)
        self.commands: dict[str, CommandRow] = {}
        self.version = 0

    def add(self, event: Event) -> None:
        """Fold one event in; types without a row of their own are ignored."""
        if isinstance(event, CommandAnswered):
            self._add_command(event)
            return
        described = _describe(event)
        if described is not None:
            kind, text, level = described
            self._append(
                Entry(
                    kind,
                    event.time,
                    # Events of a run as a whole have no place in a stage.
                    getattr(event, "stage", None),
                    getattr(event, "step", None),
                    text,
                    level,
                )
            )

    def add_request(self, line: dict[str, Any]) -> None:
        """Take a line of the command log, which the worker may not have seen yet."""
        identity = str(line["id"])
        if identity not in self.commands:
            value = line.get("value")
            self._open_command(
                identity,
                by=str(line.get("by", "user")),
                time=str(line.get("time", "")),
                action=str(line.get("action", "")),
                value=value if isinstance(value, int | float) else None,
                requested=True,
            )

    def newest_command(self, action: str | None = None) -> CommandRow | None:
        """Return the newest command, or the newest of one action."""
        for row in reversed(self.commands.values()):
            if action is None or row.action == action:
                return row
        return None

    def worked_on(self) -> CommandRow | None:
        """Return the command that the worker is taking a while for."""
        return next((row for row in reversed(self.commands.values()) if row.doing), None)

    def _append(self, row: Entry) -> None:
        self.rows.append(row)
        self.version += 1

    def _add_command(self, event: CommandAnswered) -> None:
        row = self.commands.get(event.id)
        if row is None:
            row = self._open_command(
                event.id,
                by=event.by,
                time=event.time,
                action=event.action,
                value=event.value,
                requested=False,
            )
        row.op = event.op or row.op
        row.status = event.status
        row.stage, row.step = event.stage, event.step
        if event.status == "accepted":
            row.accepted = event.time
        phase = f"{event.status} @{event.step}" if event.step is not None else event.status
        if row.phases and phase.removeprefix("done") == row.phases[-1].removeprefix("accepted"):
            phase = event.status
        if event.status in {"done", "failed"} and row.accepted:
            took_s = row.seconds_until(seconds_since_epoch(event.time) or 0.0)
            phase += f" in {format_duration(took_s)}" if took_s > _QUICK_S else ""
        row.phases.append(phase)
        if event.reason:
            row.phases[-1] += f" ({event.reason})"
        if event.status in {"refused", "failed"}:
            row.level = "error"
        _spell(row)
        self.version += 1

    def _open_command(
        self,
        identity: str,
        *,
        by: str,
        time: str,
        action: str,
        value: float | None,
        requested: bool,
    ) -> CommandRow:
        by = by or "user"
        row = CommandRow(
            Kind.ACTION if by == "user" else Kind.RULE,
            time,
            None,
            None,
            "",
            id=identity,
            action=action,
            by=by if value is None else f"{by} at {format_value(value)}",
            phases=["requested"] if requested or by == "user" else [],
        )
        _spell(row)
        self.commands[identity] = row
        while len(self.commands) > CAPACITY:
            del self.commands[next(iter(self.commands))]
        self._append(row)
        return row


def _describe(event: Event) -> tuple[Kind, str, str] | None:
    """Return an event's kind, text and level; None for one without a row."""
    match event:
        case RunStarted():
            layers = f", {event.model.layers} blocks" if event.model.layers else ""
            device = event.device or "an unknown device"
            return Kind.RUN, f"run started on {device}{layers}", "info"
        case StageStarted():
            beside = f", known before: {', '.join(event.known)}" if event.known else ""
            text = f"stage {event.stage} begins: task {event.task}, {event.steps} steps{beside}"
            return Kind.STAGE, text, "info"
        case StageFinished():
            return Kind.STAGE, f"stage {event.stage} is done", "info"
        case Danger():
            steps = f" ({event.window} steps)" if event.window else ""
            entered = event.state == "entered"
            text = f"danger window {'entered' if entered else 'left'}{steps}"
            return Kind.DANGER, text, "warn" if entered else "info"
        case TasksAtRisk():
            return Kind.DANGER, _spell_risk(event), "info"
        case Alert() | LinesLost():
            return Kind.ALERT, event.message, event.level
        case CheckpointWritten():
            size = f", {format_bytes(event.bytes)}" if event.bytes else ""
            name = f"{event.stage}/step-{event.step:06d}"
            return Kind.CHECKPOINT, f"checkpoint {name}{size}", "info"
        case Rewound():
            lost = f"{event.lost} step{'' if event.lost == 1 else 's'} lost"
            return Kind.REWIND, f"back to step {event.step} ({event.reason}): {lost}", "warn"
        case DiagnosisMade():
            text = (
                f"verdict {event.verdict}: now {format_value(event.now)}, "
                f"after the recovery test {format_value(event.recovered)}{_spell_share(event)}"
            )
            return Kind.VERDICT, text, "info"
        case RunFinished():
            reason = f": {event.reason}" if event.reason else ""
            text = f"run {event.status.replace('_', ' ')}, exit code {event.exit_code}{reason}"
            return Kind.RUN, text, "info" if event.status == "completed" else "error"
    return None


def _spell_risk(event: TasksAtRisk) -> str:
    frames = frames_at_risk(event)
    if not frames:
        return "no other task's prompts lie near the new ones"
    others = f" (nearest of {len(frames)} frames)" if len(frames) > 1 else ""
    return f"at risk: {frames[0]}{others}"


def _spell_share(event: DiagnosisMade) -> str:
    share, interval = event.spurious_share, event.interval
    if share is None or not interval:
        return ""
    low, high = interval
    between = f"{format_share(low)} to {format_share(high)}"
    return f"; spurious share {format_share(share)} ({between})"


def _spell(row: CommandRow) -> None:
    by = "" if row.by == "user" else f" by rule {row.by}"
    row.text = f"{row.action}{by}: {' > '.join(row.phases)}"
