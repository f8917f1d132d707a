"""Tracks what the log already records, so that a resumed worker neither repeats nor skips work.

Commands that finished after the checkpoint are applied again at their step without new events. A
rule firing that is in the log is not logged twice. A rollback voids the work that it discards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sf_tui.run.state import RunState
from sf_tui.vocabulary.commands import ACCEPTED, DONE, Command
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
from sf_tui.vocabulary.ops import op_named

_VOIDING = frozenset({"rollback", "nan"})


class ResumeLog:
    """The run's state, and the work that a worker must not log or do twice.

    Attributes:
        state: the state folded from the log.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.state = RunState()
        self._logged: dict[tuple[str, ...], int] = {}
        for event in events:
            self.add(event)

    @property
    def commands(self) -> dict[str, Command]:
        """All commands, by id."""
        return self.state.commands

    @property
    def _voiding(self) -> list[Rewound]:
        return [event for event in self.state.rewinds if event.reason in _VOIDING]

    @property
    def rewound(self) -> Rewound | None:
        """The last rewind by a rollback or a NaN, which discards work; None without one."""
        return next(reversed(self._voiding), None)

    @property
    def rewound_seq(self) -> int:
        """Event number of that rewind; commands before it are void. 0 without one."""
        rewound = self.rewound
        return rewound.seq if rewound else 0

    @property
    def rewinds(self) -> int:
        """Number of rollbacks and NaN rewinds so far; part of the id of a rule firing."""
        return len(self._voiding)

    @property
    def nan_rewinds(self) -> dict[str, int]:
        """Number of NaN rewinds per stage."""
        return Counter(event.stage for event in self.state.rewinds if event.reason == "nan")

    def add(self, event: Event) -> None:
        """Fold one event into the state."""
        self.state.add(event)
        if isinstance(event, Rewound):
            self._forget(event)
        elif isinstance(event, Probe):
            self._logged.setdefault((event.TYPE, event.stage, str(event.step)), event.step)
        elif isinstance(event, Danger):
            key = (event.TYPE, event.stage, event.state, str(event.step), event.cause)
            self._logged[key] = event.step
        elif isinstance(event, Alert):
            for exactly in (False, True):
                self._logged.setdefault(_alert_key(event, exactly=exactly), event.step or 0)
        elif isinstance(event, StageStarted | StageFinished | TasksAtRisk):
            self._logged[event.TYPE, event.stage] = 0
        elif isinstance(event, RunStarted):
            self._logged[event.TYPE, ""] = 0

    def has_event(self, kind: str, stage: str = "", word: str | None = None) -> bool:
        """Return whether a non-void event of this kind and stage (and step) is logged."""
        return ((kind, stage) if word is None else (kind, stage, word)) in self._logged

    def has_alert(self, alert: Alert, *, exactly: bool) -> bool:
        """Return whether a non-void alert of this stage, code and task is logged.

        Args:
            alert: the alert.
            exactly: compare step and message too.
        """
        return _alert_key(alert, exactly=exactly) in self._logged

    def has_danger(self, danger: Danger) -> bool:
        """Return whether a non-void event of this state, step and cause is logged."""
        key = (danger.TYPE, danger.stage, danger.state, str(danger.step), danger.cause)
        stage = self.state.stages.get(danger.stage)
        if stage is not None and danger.state == "entered":
            # A rollback to this very step closed what was opened behind the checkpoint.
            opened = ((window.start, window.cause) for window in stage.opened)
            return key in self._logged and (danger.step, danger.cause) in opened
        return key in self._logged

    def last_step(self, stage: str) -> int:
        """Return the last logged step of a stage; 0 without one."""
        return self.state.stages[stage].step if stage in self.state.stages else 0

    def checkpoint_seq(self, stage: str, name: str) -> int:
        """Return the `seq` of the last event about a checkpoint of that name; 0 without one."""
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

    def to_replay(self, stage: str, after_seq: int) -> list[Command]:
        """Return a stage's commands to apply again after a checkpoint, in order."""
        since = max(after_seq, self.rewound_seq)
        return sorted(
            (
                command
                for command in self.commands.values()
                if command.stage == stage
                and command.status == DONE
                and op_named(command.op).replayed
                and command.seq > since
            ),
            key=lambda command: command.seq,
        )

    def edited_seq(self, stage: str) -> int:
        """Return the event number of the last weight change between two steps; 0 without one."""
        since = self.rewound_seq
        return max(
            (
                command.seq
                for command in self.commands.values()
                if command.stage == stage
                and command.status == DONE
                and op_named(command.op).changes_weights
                and command.seq > since
            ),
            default=0,
        )

    def unfinished(self) -> list[Command]:
        """Return the accepted commands that never finished."""
        return [command for command in self.commands.values() if command.status == ACCEPTED]

    def has_fired(self, rule: str) -> bool:
        """Return whether a rule has fired in this run."""
        return any(
            command.by_rule and command.by == rule and command.status in {ACCEPTED, DONE}
            for command in self.commands.values()
        )

    def _forget(self, event: Rewound) -> None:
        """Allow events that a rollback or a NaN rewind undid to be written again."""
        if event.reason in _VOIDING:
            self._logged = {
                key: at
                for key, at in self._logged.items()
                if EVENTS[key[0]].ON_REWIND is OnRewind.STAYS
                or key[1] != event.stage
                or at <= event.step
            }


def _alert_key(alert: Alert, *, exactly: bool) -> tuple[str, ...]:
    key = (alert.TYPE, alert.stage or "", alert.code, alert.task)
    return (*key, str(alert.step or 0), alert.message) if exactly else key
