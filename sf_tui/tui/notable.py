"""What happened in a run besides measuring: one row for each thing an operator would retell.

A command is one row however far the worker has come with it: requested, accepted, done. Knows
events and commands; knows nothing of terminals or widths.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sf_tui.run.events import Event
from sf_tui.tui.frames import frames_at_risk
from sf_tui.tui.numbers import (
    format_bytes,
    format_duration,
    format_share,
    format_value,
    seconds_since_epoch,
)
from sf_tui.vocabulary.commands import ACCEPTED, DONE, FAILED, REFUSED, REQUESTED, Command
from sf_tui.vocabulary.ops import op_named

CAPACITY = 2000
"""Rows kept; a run of weeks has more checkpoints than anyone scrolls through."""
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
class Notable:
    """One thing that happened."""

    kind: Kind
    time: str
    stage: str | None
    step: int | None
    text: str
    level: str = "info"
    """info, warn or error."""


@dataclass
class CommandRow(Notable):
    """A command's row, one however far the worker has come with it."""

    command: Command = field(default_factory=lambda: Command("", ""))
    phases: list[str] = field(default_factory=list)
    """What was acknowledged so far, such as `requested`, `accepted @412`, `done`."""

    @property
    def doing(self) -> str:
        """What the worker is doing for it now, if that takes a while; else empty."""
        return op_named(self.command.op).doing if self.command.status == ACCEPTED else ""

    @property
    def is_under_way(self) -> bool:
        """Whether the worker still owes an answer."""
        return self.command.is_pending

    def seconds_until(self, now_s: float) -> float:
        """Return for how long the worker has been at it."""
        began = seconds_since_epoch(self.command.accepted)
        return 0.0 if began is None else max(now_s - began, 0.0)


class Notables:
    """The newest things that happened, oldest first.

    Attributes:
        rows: the things.
        commands: the rows of commands, by id, in the order they were seen.
        version: rises with every change, also of a row that is there.
    """

    def __init__(self) -> None:
        self.rows: deque[Notable] = deque(maxlen=CAPACITY)
        self.commands: dict[str, CommandRow] = {}
        self.version = 0

    def add(self, event: Event) -> None:
        """Fold one event in; types that are no row of their own are passed over."""
        describe = getattr(self, f"_on_{event.get('type')}", None)
        if describe is not None:
            describe(event)

    def add_request(self, line: dict[str, Any]) -> None:
        """Take a line of the command log, which the worker may not have seen yet."""
        identity = str(line["id"])
        if identity not in self.commands:
            self._open_command(identity, line, REQUESTED)

    def newest_command(self, action: str | None = None) -> CommandRow | None:
        """Return the newest command, or the newest of one action."""
        for row in reversed(self.commands.values()):
            if action is None or row.command.action == action:
                return row
        return None

    def worked_on(self) -> CommandRow | None:
        """Return the command that the worker is taking a while for."""
        return next((row for row in reversed(self.commands.values()) if row.doing), None)

    def _append(self, row: Notable) -> None:
        self.rows.append(row)
        self.version += 1

    def _note(self, kind: Kind, event: Event, text: str, level: str = "info") -> None:
        self._append(
            Notable(kind, event.get("time", ""), event.get("stage"), event.get("step"), text, level)
        )

    def _on_run_started(self, event: Event) -> None:
        device = event.get("device", "an unknown device")
        model = event.get("model") or {}
        layers = f", {model['layers']} blocks" if "layers" in model else ""
        self._note(Kind.RUN, event, f"run started on {device}{layers}")

    def _on_stage_started(self, event: Event) -> None:
        known = event.get("known") or []
        beside = f", known before: {', '.join(known)}" if known else ""
        self._note(
            Kind.STAGE,
            event,
            f"stage {event['stage']} begins: task {event['task']}, {event['steps']} steps{beside}",
        )

    def _on_stage_finished(self, event: Event) -> None:
        self._note(Kind.STAGE, event, f"stage {event['stage']} is done")

    def _on_danger(self, event: Event) -> None:
        window = event.get("window")
        steps = f" ({window} steps)" if window else ""
        entered = event["state"] == "entered"
        text = f"danger window {'entered' if entered else 'left'}{steps}"
        self._note(Kind.DANGER, event, text, "warn" if entered else "info")

    def _on_tasks_at_risk(self, event: Event) -> None:
        frames = frames_at_risk(event)
        if not frames:
            self._note(Kind.DANGER, event, "no other task's prompts lie near the new ones")
            return
        more = len(frames) - 1
        others = f" (nearest of {more + 1} frames)" if more else ""
        self._note(Kind.DANGER, event, f"at risk: {frames[0]}{others}")

    def _on_alert(self, event: Event) -> None:
        self._note(
            Kind.ALERT, event, str(event.get("message", "")), str(event.get("level", "warn"))
        )

    def _on_lines_lost(self, event: Event) -> None:
        self._on_alert(event)

    def _on_checkpoint(self, event: Event) -> None:
        size = f", {format_bytes(event['bytes'])}" if event.get("bytes") else ""
        self._note(
            Kind.CHECKPOINT, event, f"checkpoint {event['stage']}/step-{event['step']:06d}{size}"
        )

    def _on_rewound(self, event: Event) -> None:
        lost = event.get("lost", 0)
        self._note(
            Kind.REWIND,
            event,
            f"back to step {event['step']} ({event.get('reason', '')}): "
            f"{lost} step{'' if lost == 1 else 's'} lost",
            "warn",
        )

    def _on_diagnosis(self, event: Event) -> None:
        self._note(
            Kind.VERDICT,
            event,
            f"verdict {event['verdict']}: now {format_value(event.get('now'))}, "
            f"after the recovery test {format_value(event.get('recovered'))}"
            f"{_spell_share(event)}",
        )

    def _on_run_finished(self, event: Event) -> None:
        status = str(event["status"])
        reason = f": {event['reason']}" if event.get("reason") else ""
        self._note(
            Kind.RUN,
            event,
            f"run {status.replace('_', ' ')}, exit code {event.get('exit_code')}{reason}",
            "info" if status == "completed" else "error",
        )

    def _on_command(self, event: Event) -> None:
        row = self.commands.get(str(event["id"]))
        if row is None:
            row = self._open_command(str(event["id"]), event, None)
        command = row.command
        command.update(event)
        status = command.status
        row.stage, row.step = command.stage, command.step
        phase = f"{status} @{event['step']}" if event.get("step") is not None else status
        if row.phases and phase.removeprefix(DONE) == row.phases[-1].removeprefix(ACCEPTED):
            phase = status
        if status in {DONE, FAILED} and command.accepted:
            took_s = row.seconds_until(seconds_since_epoch(event.get("time", "")) or 0.0)
            phase += f" in {format_duration(took_s)}" if took_s > _QUICK_S else ""
        row.phases.append(phase)
        if command.reason:
            row.phases[-1] += f" ({command.reason})"
        if status in {REFUSED, FAILED}:
            row.level = "error"
        _spell(row)
        self.version += 1

    def _open_command(self, identity: str, line: dict[str, Any], phase: str | None) -> CommandRow:
        command = Command.from_line(line)
        command.value = line.get("value")
        by_user = command.by == "user"
        row = CommandRow(
            Kind.ACTION if by_user else Kind.RULE,
            command.requested,
            line.get("stage"),
            line.get("step"),
            "",
            command=command,
            phases=[phase] if phase else [REQUESTED] if by_user else [],
        )
        _spell(row)
        self.commands[identity] = row
        while len(self.commands) > CAPACITY:
            del self.commands[next(iter(self.commands))]
        self._append(row)
        return row


def _spell_share(diagnosis: Event) -> str:
    share, interval = diagnosis.get("spurious_share"), diagnosis.get("interval")
    if share is None or not interval:
        return ""
    low, high = interval
    between = f"{format_share(low)} to {format_share(high)}"
    return f"; spurious share {format_share(share)} ({between})"


def _spell(row: CommandRow) -> None:
    command = row.command
    by = "" if command.by == "user" else f" by rule {command.by}"
    if command.value is not None:
        by += f" at {format_value(command.value)}"
    row.text = f"{command.action}{by}: {' > '.join(row.phases)}"
