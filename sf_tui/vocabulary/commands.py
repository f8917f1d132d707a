"""A command: one request for an action of the profile, and its status.

The command log, the event log, the worker and the console share this record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sf_tui.vocabulary.events import CommandAnswered

REQUESTED = "requested"
ACCEPTED = "accepted"
DONE = "done"
FAILED = "failed"
REFUSED = "refused"
CANCELLED = "cancelled"

LONGEST_SENDER = 80
"""Characters kept of a sender's name."""


def clean_sender(name: object) -> str:
    """Return a sender's name without control characters, on one line; empty if it is no text."""
    if not isinstance(name, str):
        return ""
    signs = "".join(sign if sign.isprintable() else " " for sign in name)
    return " ".join(signs.split())[:LONGEST_SENDER]


@dataclass(slots=True)
class Command:
    """One command.

    Attributes:
        id: the same in the command log and in every event about it.
        action: name of the profile's action.
        op: what the action does; empty until the worker accepts it.
        arguments: the op's, complete once it is accepted. They can be any JSON if the command log
            was written by hand.
        by: who asked and from where, such as `ana@gpu7 pts/3`; the rule's name if a rule fired.
        by_rule: whether a rule of the profile asked; only the worker sets it.
        value: the metric value that fired a rule.
        status: `requested`, `accepted`, `done`, `failed`, `refused` or `cancelled`.
        stage: the stage in which the worker answered.
        step: optimizer step of the stage at that moment.
        reason: the worker's explanation.
        requested: time of the request, RFC 3339; of the worker's first answer where only the event
            log was read; empty if it is unknown.
        accepted: time at which the worker accepted it; empty before that.
        seq: number of the latest event about it; 0 before the first.
        changed: whether it changed anything; False if there was nothing to do.
    """

    id: str
    action: str
    op: str = ""
    arguments: Any = field(default_factory=dict)
    by: str = ""
    by_rule: bool = False
    value: float | None = None
    status: str = REQUESTED
    stage: str | None = None
    step: int | None = None
    reason: str | None = None
    requested: str = ""
    accepted: str = ""
    seq: int = 0
    changed: bool = True

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Command:
        """Return the command of one line of the command log, however malformed the line is.

        Args:
            line: as `CommandTail` gives it, with an id.
        """
        arguments = line.get("arguments")
        return cls(
            str(line["id"]),
            str(line.get("action", "")),
            arguments={} if arguments is None else arguments,
            by=clean_sender(line.get("by")),
            requested=str(line.get("time", "")),
        )

    @classmethod
    def from_event(cls, event: CommandAnswered) -> Command:
        """Return the command that an event is about, as far as the event describes it."""
        command = cls(event.id, event.action, by=clean_sender(event.by), by_rule=event.by_rule)
        command.requested = event.time
        command.update(event)
        return command

    def update(self, event: CommandAnswered) -> None:
        """Update the status from an event; fields that the event omits keep their values."""
        self.status = event.status
        self.op = event.op or self.op
        self.arguments = event.arguments or self.arguments
        self.stage = event.stage
        self.step = event.step
        self.reason = event.reason
        self.seq = event.seq or self.seq
        self.changed = event.changed
        if event.value is not None:
            self.value = event.value
        if self.status == ACCEPTED:
            self.accepted = event.time

    @property
    def is_pending(self) -> bool:
        """Whether the worker's final answer is outstanding."""
        return self.status in (REQUESTED, ACCEPTED)

    @property
    def sender(self) -> str:
        """Who asked, for readers: `ana@gpu7 pts/3`, `rule NAME`, or `unknown`."""
        return f"rule {self.by}" if self.by_rule else self.by or "unknown"

    def answer(
        self, status: str, reason: str | None = None, *, changed: bool = True
    ) -> CommandAnswered:
        """Return the event that changes the status."""
        return CommandAnswered(
            id=self.id,
            action=self.action,
            op=self.op,
            arguments=self.arguments,
            by=self.by,
            by_rule=self.by_rule,
            value=self.value,
            status=status,
            stage=self.stage,
            step=self.step,
            reason=reason,
            changed=changed,
        )
