"""What a step obeys, decided once: signals, commands, rules and what a resume has to repeat.

Deciding reads and changes nothing; `sf_tui.worker.commands` applies the decisions. They are plain
data, so that one process can decide for all that train the same model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from sf_tui.vocabulary.commands import ACCEPTED, DONE, FAILED, Command
from sf_tui.vocabulary.ops import op_named
from sf_tui.worker.context import RunContext

Answer = tuple[Command, str, str | None]
"""A command, its new status, and the reason."""


@dataclass(frozen=True)
class Decisions:
    """What is to be done at one point of a stage, in this order.

    Attributes:
        stage: the stage's name.
        step: optimizer steps done.
        replays: commands to apply again: they are in the log, and the checkpoint is older.
        stop: why the run stops here; empty where it does not.
        commands: commands to check, answer and apply.
        probe: whether the step that follows ends with a probe.
    """

    stage: str
    step: int
    replays: tuple[Command, ...] = ()
    stop: str = ""
    commands: tuple[Command, ...] = ()
    probe: bool = False

    @property
    def is_final(self) -> bool:
        """Whether nothing is left to decide before the next step."""
        return not (self.replays or self.stop or self.commands)

    def to_json(self) -> bytes:
        """Return the decisions as JSON."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, data: bytes) -> Decisions:
        """Return the decisions that `to_json` wrote."""
        fields: dict[str, Any] = orjson.loads(data)
        for name in ("replays", "commands"):
            fields[name] = tuple(Command(**command) for command in fields[name])
        return cls(**fields)


class CommandQueue:
    """Decides for one stage what comes next."""

    def __init__(self, context: RunContext, stage: str) -> None:
        self._context = context
        self._stage = stage
        self._replays: list[Command] = []

    @property
    def applied_seq(self) -> int:
        """The last event up to which every command of the log has had its effect."""
        # The next resume must find again what waits for its step after this one.
        waiting = [command.seq for command in self._replays]
        return min(waiting, default=self._context.log.seq + 1) - 1

    def resume_from(self, seq: int, step: int) -> list[Answer]:
        """Queue the commands that the log has and a checkpoint does not; return due answers.

        Args:
            seq: the last event that the checkpoint includes.
            step: the checkpoint's step.
        """
        log = self._context.resume_log
        self._replays = log.to_replay(self._stage, seq)
        rules = {rule.name for rule in self._context.profile.rules}
        answers: list[Answer] = []
        for command in log.unfinished():
            if command.stage != self._stage:
                continue
            at = command.step or 0
            rolled_back = command.op == "rollback" and command.seq < log.rewound_seq
            saved = command.op == "checkpoint" and command.seq <= seq
            if rolled_back or saved:
                answers.append((command, DONE, None))
            elif command.by in rules and command.seq > seq and at > step:
                # The rule fires again at that step, and `after_step` continues the command.
                continue
            elif (
                op_named(command.op).replayed
                and command.seq > log.rewound_seq
                # At the checkpoint's own step: a stop saved it while the command was running.
                and (command.seq > seq or at == step)
            ):
                self._replays.append(command)
            else:
                answers.append((command, FAILED, "the worker ended before it was done"))
        return answers

    def drop_replays(self) -> list[Command]:
        """Empty the queue of commands to apply again; return those still without an answer."""
        unanswered = [command for command in self._replays if command.status == ACCEPTED]
        self._replays.clear()
        return unanswered

    def replayed(self, command: Command) -> None:
        """Take a command that was applied again off the queue."""
        self._replays.remove(command)

    def before_step(self, step: int, *, probe: bool) -> Decisions:
        """Decide what comes next before a step; to be called until the decisions are final.

        Args:
            step: optimizer steps done.
            probe: whether the step that follows ends with a probe.
        """
        due = tuple(command for command in self._replays if (command.step or 0) <= step)
        if due:
            return Decisions(self._stage, step, replays=due)
        if self._context.signals.received:
            return Decisions(self._stage, step, stop=f"by signal {self._context.signals.received}")
        # One at a time: what follows a rollback or a stop is read after it.
        for line in self._context.commands.iterate():
            command = Command.from_line(line)
            if not self._is_answered(command):
                return Decisions(self._stage, step, commands=(command,))
        return Decisions(self._stage, step, probe=probe)

    def after_step(self, metrics: Mapping[str, float | None], step: int) -> Iterator[Decisions]:
        """Decide which rules act on the metrics of a step, one rule at a time.

        A rule acts once, even if the step is trained again after a kill.
        """
        log = self._context.resume_log
        for rule, value in self._context.rules.evaluate(metrics, step):
            identity = f"{rule.name}:{self._stage}:{step}:{log.rewinds}"
            known = log.commands.get(identity)
            if known is not None and known.status == DONE:
                # At this very place, before the checkpoint of the step, as it was the first time.
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
                    value=value,
                )
                yield Decisions(self._stage, step, commands=(command,))

    def interruptions(self, step: int) -> Decisions:
        """Decide what acts at once while another command is running: a stop, ahead of its turn."""
        actions = self._context.profile.actions
        commands = map(Command.from_line, self._context.commands.ahead())
        return Decisions(
            self._stage,
            step,
            commands=tuple(
                command
                for command in commands
                if command.action in actions
                and op_named(actions[command.action].op).interrupts
                and not self._is_answered(command)
            ),
        )

    def _is_answered(self, command: Command) -> bool:
        known = self._context.resume_log.commands.get(command.id)
        return known is not None and known.status != ACCEPTED
