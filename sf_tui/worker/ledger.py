"""What the log already says, so that a resumed worker repeats nothing and forgets nothing.

Commands that were done after the checkpoint are applied again at their step without new events; a
rule's firing that stands in the log is not told twice; a rollback voids what came before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sf_tui.run.state import CommandState, RunState
from sf_tui.vocabulary.events import (
    EVENTS,
    Alert,
    Danger,
    Event,
    OnRewind,
    Probe,
    Rewound,
    RunStarted,
    StageFinished,
    StageStarted,
    TasksAtRisk,
)

# Only what changes weights is applied again; a pause or a checkpoint has had its effect.
REPLAYED_OPS = frozenset({"freeze", "unfreeze", "anchor", "unanchor"})
# Those that change the weights at once; they are applied again as well.
MENDING_OPS = ("recover", "shift-edit", "spectral-edit", "interpolate")
REPLAYED_OPS |= frozenset(MENDING_OPS)
_VOIDING = frozenset({"rollback", "nan"})


class Ledger:
    """The run's state, and what a worker must not write or do twice.

    Attributes:
        state: the fold of the log.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.state = RunState()
        self._said: dict[tuple[str, ...], int] = {}
        for event in events:
            self.add(event)

    @property
    def entries(self) -> dict[str, CommandState]:
        """Commands by id."""
        return self.state.commands

    @property
    def _voiding(self) -> list[Rewound]:
        return [event for event in self.state.rewinds if event.reason in _VOIDING]

    @property
    def voided(self) -> Rewound | None:
        """The last rewind that threw away work on purpose; None without one."""
        return self._voiding[-1] if self._voiding else None

    @property
    def void_seq(self) -> int:
        """Number of that rewind; commands before it don't count any more. 0 without one."""
        return self.voided.seq if self.voided else 0

    @property
    def rewinds(self) -> int:
        """Rollbacks and NaNs so far; part of the identity of a rule's firing."""
        return len(self._voiding)

    @property
    def nan_rewinds(self) -> dict[str, int]:
        """For each stage, the NaNs that it was taken back from."""
        return Counter(event.stage for event in self.state.rewinds if event.reason == "nan")

    def add(self, event: Event) -> None:
        """Fold one event in."""
        self.state.add(event)
        if isinstance(event, Rewound):
            self._forget(event)
        elif isinstance(event, Probe):
            self._said.setdefault((event.TYPE, event.stage, str(event.step)), event.step)
        elif isinstance(event, Danger):
            self._said[event.TYPE, event.stage, event.state] = event.step
        elif isinstance(event, Alert):
            self._said[event.TYPE, event.stage or "", event.code] = event.step or 0
        elif isinstance(event, StageStarted | StageFinished | TasksAtRisk):
            self._said[event.TYPE, event.stage] = 0
        elif isinstance(event, RunStarted):
            self._said[event.TYPE, ""] = 0

    def said(self, kind: str, stage: str = "", word: str | None = None) -> bool:
        """Tell whether an event of that kind, stage and state or code stands and still counts."""
        return ((kind, stage) if word is None else (kind, stage, word)) in self._said

    def last_step(self, stage: str) -> int:
        """Return the last step of a stage in the log; 0 without one."""
        return self.state.stages[stage].step if stage in self.state.stages else 0

    def checkpoint_seq(self, stage: str, name: str) -> int:
        """Return the newest event about a checkpoint of that name; 0 without one."""
        return next(
            (
                event.seq
                for event in reversed(self.state.checkpoints)
                if event.stage == stage and event.path.rpartition("/")[2] == name
            ),
            0,
        )

    def first_loss(self, stage: str) -> float | None:
        """Return the loss of a stage's first step, in nats; None without one."""
        return self.state.stages[stage].first_loss if stage in self.state.stages else None

    def to_replay(self, stage: str, after_seq: int) -> list[CommandState]:
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

    def unfinished(self) -> list[CommandState]:
        """Return the commands that were accepted and never came to an end."""
        return [entry for entry in self.entries.values() if entry.status == "accepted"]

    def has_fired(self, rule: str) -> bool:
        """Tell whether a rule has fired in this run."""
        return any(
            entry.by == rule and entry.status in {"accepted", "done"}
            for entry in self.entries.values()
        )

    def _forget(self, event: Rewound) -> None:
        """Let what a rollback or a NaN has taken back be written again."""
        if event.reason in _VOIDING:
            self._said = {
                key: at
                for key, at in self._said.items()
                if EVENTS[key[0]].ON_REWIND is OnRewind.STAYS
                or key[1] != event.stage
                or at <= event.step
            }
