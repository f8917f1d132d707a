"""What the log already says, so that a resumed worker repeats nothing and forgets nothing.

Commands that were done after the checkpoint are applied again at their step without new events; a
rule's firing that stands in the log is not told twice; a rollback voids what came before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sf_tui.run.events import Event

# Only what changes weights is applied again; a pause or a checkpoint has had its effect.
REPLAYED_OPS = frozenset({"freeze", "unfreeze", "anchor", "unanchor"})
# Those that change the weights at once; they are applied again as well.
MENDING_OPS = ("recover", "shift-edit", "spectral-edit", "interpolate")
REPLAYED_OPS |= frozenset(MENDING_OPS)
_VOIDING = frozenset({"rollback", "nan"})


@dataclass
class LedgerEntry:
    """A command as the log tells it."""

    id: str
    op: str
    action: str
    by: str
    arguments: dict[str, Any]
    stage: str
    step: int
    status: str
    seq: int


class Ledger:
    """Folds events into what a worker must remember of them.

    Attributes:
        entries: commands by id.
        void_seq: the last rewind that threw away work on purpose; commands before it count no more.
        voided: that rewind.
        rewinds: rollbacks and NaNs so far; part of a rule's firing's identity.
        nan_rewinds: for each stage, NaNs that it was taken back from.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.entries: dict[str, LedgerEntry] = {}
        self.void_seq = 0
        self.rewinds = 0
        self.nan_rewinds: dict[str, int] = {}
        self.voided: Event | None = None
        self._said: dict[tuple[str, ...], int] = {}
        self._steps: dict[str, int] = {}
        self._checkpoints: dict[tuple[str, str], int] = {}
        self._first_losses: dict[str, float] = {}
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Fold one event in."""
        kind = event["type"]
        stage = event.get("stage", "")
        if kind == "command":
            self._add_command(event)
        elif kind == "rewound":
            self._add_rewound(event)
        elif kind == "step":
            self._steps[stage] = event["step"]
            if event["step"] == 1:
                self._first_losses[stage] = event["loss"]
        elif kind == "checkpoint":
            self._checkpoints[stage, event["path"].rpartition("/")[2]] = event["seq"]
        elif kind == "probe":
            self._said.setdefault((kind, stage, str(event["step"])), event["step"])
        elif kind in {"danger", "alert"}:
            word = event["state"] if kind == "danger" else event["code"]
            self._said[kind, stage, word] = event.get("step") or 0
        elif kind in {"stage_started", "stage_finished", "run_started", "tasks_at_risk"}:
            self._said[kind, stage] = 0

    def said(self, kind: str, stage: str = "", word: str | None = None) -> bool:
        """Tell whether an event of that kind, stage and state or code stands and still counts."""
        return ((kind, stage) if word is None else (kind, stage, word)) in self._said

    def last_step(self, stage: str) -> int:
        """Return the last step that the log tells of a stage; 0 without one."""
        return self._steps.get(stage, 0)

    def checkpoint_seq(self, stage: str, name: str) -> int:
        """Return the last event that tells of a checkpoint of that name; 0 without one."""
        return self._checkpoints.get((stage, name), 0)

    def first_loss(self, stage: str) -> float | None:
        """Return the loss of a stage's first step, in nats; None without one."""
        return self._first_losses.get(stage)

    def to_replay(self, stage: str, after_seq: int) -> list[LedgerEntry]:
        """Return the commands of a stage to apply again after a checkpoint, in their order."""
        since = max(after_seq, self.void_seq)
        return sorted(
            (
                entry
                for entry in self.entries.values()
                if entry.stage == stage
                and entry.status == "done"
                and entry.op in REPLAYED_OPS
                and entry.seq > since
            ),
            key=lambda entry: entry.seq,
        )

    def mended_seq(self, stage: str) -> int:
        """Return the last event that told of weights changed between two steps; 0 without one."""
        return max(
            (
                entry.seq
                for entry in self.entries.values()
                if entry.stage == stage
                and entry.status == "done"
                and entry.op in MENDING_OPS
                and entry.seq > self.void_seq
            ),
            default=0,
        )

    def unfinished(self) -> list[LedgerEntry]:
        """Return the commands that were accepted and never came to an end."""
        return [entry for entry in self.entries.values() if entry.status == "accepted"]

    def has_fired(self, rule: str) -> bool:
        """Tell whether a rule has fired in this run."""
        return any(
            entry.by == rule and entry.status in {"accepted", "done"}
            for entry in self.entries.values()
        )

    def _add_command(self, event: Event) -> None:
        known = self.entries.get(event["id"])
        self.entries[event["id"]] = LedgerEntry(
            event["id"],
            event.get("op") or (known.op if known else ""),
            event.get("action", ""),
            event.get("by", ""),
            event.get("args") or (known.arguments if known else {}),
            event.get("stage") or "",
            event.get("step") or 0,
            event["status"],
            event["seq"],
        )

    def _add_rewound(self, event: Event) -> None:
        stage, step = event["stage"], event["step"]
        self._steps[stage] = min(self._steps.get(stage, 0), step)
        if event["reason"] not in _VOIDING:
            return
        self.void_seq = event["seq"]
        self.voided = event
        self.rewinds += 1
        if event["reason"] == "nan":
            self.nan_rewinds[stage] = self.nan_rewinds.get(stage, 0) + 1
        self._said = {
            key: at
            for key, at in self._said.items()
            if len(key) == 2 or key[1] != stage or at <= step
        }
