"""What a stage does next, as plain data, and how rank 0 decides it.

`CommandQueue` reads signals, the command log, the rules and the commands that a resume must repeat,
and returns `Decisions`, which one process can make for all that train the same model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from sf_tui.vocabulary.commands import ACCEPTED, DONE, FAILED, Command
from sf_tui.vocabulary.ops import op_named
from sf_tui.worker.context import RunContext
from sf_tui.worker.pending import PendingCommands

Answer = tuple[Command, str, str | None]
"""A command, its new status, and the reason."""


@dataclass(frozen=True)
class Decisions:
    """The actions at one point of a stage, in this order.

    Attributes:
        stage: the stage's name.
        step: optimizer steps done.
        replays: commands to apply again, because they are newer than the checkpoint.
        stop: why the run stops here; empty if it does not.
        commands: commands to check, answer and apply.
        probe: whether the next step ends with a probe.
        paused: whether the stage waits before the next step.
    """

    stage: str
    step: int
    replays: tuple[Command, ...] = ()
    stop: str = ""
    commands: tuple[Command, ...] = ()
    probe: bool = False
    paused: bool = False

    @property
    def is_final(self) -> bool:
        """Whether no decisions remain before the next step."""
        return not (self.replays or self.stop or self.commands)

    def to_json(self) -> bytes:
        """Serialize the decisions to JSON."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, data: bytes) -> Decisions:
        """Parse decisions serialized by `to_json`."""
        fields: dict[str, Any] = orjson.loads(data)
        for name in ("replays", "commands"):
            fields[name] = tuple(Command(**command) for command in fields[name])
        return cls(**fields)


class CommandQueue:
    """Decides which commands one stage runs next."""

    def __init__(self, context: RunContext, stage: str, pending: PendingCommands) -> None:
        self._context = context
        self._stage = stage
        self._pending = pending
        self._replays: list[Command] = []

    @property
    def applied_seq(self) -> int:
        """Number of the last event up to which all commands in the log have taken effect."""
        # The next resume must find the commands that are still waiting for their step.
        waiting = [command.seq for command in self._replays]
        return min(waiting, default=self._context.log.seq + 1) - 1

    def resume_from(self, seq: int, step: int) -> list[Answer]:
        """Queue the commands that are in the log but not in a checkpoint; return pending answers.

        Args:
            seq: the last event that the checkpoint includes.
            step: the checkpoint's step.
        """
        log = self._context.resume_log
        self._replays = log.to_replay(self._stage, seq)
        answers: list[Answer] = []
        for command in log.unfinished():
            if command.stage != self._stage:
                continue
            at = command.step or 0
            rolled_back = command.op == "rollback" and command.seq < log.rewound_seq
            saved = command.op == "checkpoint" and command.seq <= seq
            if rolled_back or saved:
                answers.append((command, DONE, None))
            elif command.by_rule and command.seq > seq and at > step:
                # The rule fires again at that step, and `after_step` continues the command.
                continue
            elif (
                op_named(command.op).replayed
                and command.seq > log.rewound_seq
                # At the checkpoint's own step, a stop wrote it while the command was running.
                and (command.seq > seq or at == step)
            ):
                self._replays.append(command)
            else:
                answers.append((command, FAILED, "the worker ended before it was done"))
        return answers

    def drop_replays(self) -> list[Command]:
        """Clear the queue of commands to apply again; return those without a final answer."""
        unanswered = [command for command in self._replays if command.status == ACCEPTED]
        self._replays.clear()
        return unanswered

    def replayed(self, command: Command) -> None:
        """Remove a command from the queue after it was applied again."""
        self._replays.remove(command)

    def before_step(self, step: int, *, probe: bool) -> Decisions:
        """Decide the next actions before a step; call this until the decisions are final.

        Args:
            step: optimizer steps done.
            probe: whether the next step ends with a probe.
        """
        due = tuple(command for command in self._replays if (command.step or 0) <= step)
        if due:
            return Decisions(self._stage, step, replays=due)
        if self._context.signals.received:
            return Decisions(self._stage, step, stop=f"by signal {self._context.signals.received}")
        # One at a time: commands after a rollback or a stop are decided on after it.
        command = self._pending.next()
        if command is not None:
            return Decisions(self._stage, step, commands=(command,))
        return Decisions(self._stage, step, probe=probe)

    def after_step(self, metrics: Mapping[str, float | None], step: int) -> Iterator[Decisions]:
        """Yield the decisions of the rules that fire on a step's metrics, one rule at a time.

        A rule acts once, even if the step is repeated after a kill.
        """
        log = self._context.resume_log
        for rule, value in self._context.rules.evaluate(metrics, step):
            identity = f"{rule.name}:{self._stage}:{step}:{log.rewinds}"
            known = log.commands.get(identity)
            if known is not None and known.status == DONE:
                # Same position as the first time: before the step's checkpoint.
                if known in self._replays:
                    yield Decisions(self._stage, step, replays=(known,))
            elif known is None and rule.once and log.has_fired(rule.name):
                continue
            elif known is None or known.status == ACCEPTED:
                command = Command(
                    identity,
                    rule.action,
                    arguments=dict(rule.arguments),
                    by=rule.name,
                    by_rule=True,
                    value=value,
                )
                yield Decisions(self._stage, step, commands=(command,))

    def interruptions(self, step: int) -> Decisions:
        """Decide on the commands that don't wait for the operation under way."""
        return Decisions(self._stage, step, commands=tuple(self._pending.ahead()))
