"""What the log already tells, so that a resumed worker repeats nothing and forgets nothing.

Commands that were done after the checkpoint are applied again at their step without new events. A
rule's firing that is in the log is not logged twice. A rollback voids what came before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sf_tui.run.events import Event
from sf_tui.vocabulary.commands import ACCEPTED, DONE, Command
from sf_tui.vocabulary.ops import op_named

_VOIDING = frozenset({"rollback", "nan"})


class ResumeLog:
    """Folds events into what a worker must remember of them after a resume.

    Attributes:
        commands: every command by id.
        rewound_seq: the last rewind that discarded work on purpose; commands before it are void.
        rewound: that rewind.
        rewinds: rollbacks and NaNs so far; part of the id of a rule's firing.
        nan_rewinds: for each stage, the NaNs after which it was rewound.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.commands: dict[str, Command] = {}
        self.rewound_seq = 0
        self.rewinds = 0
        self.nan_rewinds: dict[str, int] = {}
        self.rewound: Event | None = None
        self._logged: dict[tuple[str, ...], int] = {}
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
            self._logged.setdefault((kind, stage, str(event["step"])), event["step"])
        elif kind in {"danger", "alert"}:
            word = event["state"] if kind == "danger" else event["code"]
            self._logged[kind, stage, word] = event.get("step") or 0
        elif kind in {"stage_started", "stage_finished", "run_started", "tasks_at_risk"}:
            self._logged[kind, stage] = 0

    def has_event(self, kind: str, stage: str = "", word: str | None = None) -> bool:
        """Return whether an event of that kind, stage and state or code is logged and not void."""
        return ((kind, stage) if word is None else (kind, stage, word)) in self._logged

    def last_step(self, stage: str) -> int:
        """Return the last logged step of a stage; 0 without one."""
        return self._steps.get(stage, 0)

    def checkpoint_seq(self, stage: str, name: str) -> int:
        """Return the `seq` of the last event about a checkpoint of that name; 0 without one."""
        return self._checkpoints.get((stage, name), 0)

    def first_loss(self, stage: str) -> float | None:
        """Return the loss of a stage's first step, in nats; None without one."""
        return self._first_losses.get(stage)

    def to_replay(self, stage: str, after_seq: int) -> list[Command]:
        """Return the commands of a stage to apply again after a checkpoint, in their order."""
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
        """Return the last event about weights changed between two steps; 0 without one."""
        return max(
            (
                command.seq
                for command in self.commands.values()
                if command.stage == stage
                and command.status == DONE
                and op_named(command.op).changes_weights
                and command.seq > self.rewound_seq
            ),
            default=0,
        )

    def unfinished(self) -> list[Command]:
        """Return the commands that were accepted and never came to an end."""
        return [command for command in self.commands.values() if command.status == ACCEPTED]

    def has_fired(self, rule: str) -> bool:
        """Return whether a rule has fired in this run."""
        return any(
            command.by == rule and command.status in {ACCEPTED, DONE}
            for command in self.commands.values()
        )

    def _add_command(self, event: Event) -> None:
        known = self.commands.get(event["id"])
        if known is None:
            self.commands[event["id"]] = Command.from_event(event)
        else:
            # Another object: the one of before may be waiting to be applied again.
            self.commands[event["id"]] = after = replace(known)
            after.update(event)

    def _add_rewound(self, event: Event) -> None:
        stage, step = event["stage"], event["step"]
        self._steps[stage] = min(self._steps.get(stage, 0), step)
        if event["reason"] not in _VOIDING:
            return
        self.rewound_seq = event["seq"]
        self.rewound = event
        self.rewinds += 1
        if event["reason"] == "nan":
            self.nan_rewinds[stage] = self.nan_rewinds.get(stage, 0) + 1
        self._logged = {
            key: at
            for key, at in self._logged.items()
            if len(key) == 2 or key[1] != stage or at <= step
        }
