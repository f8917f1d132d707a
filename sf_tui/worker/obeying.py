"""Commands: from operators and from rules, acknowledged one by one and carried out at a step.

Every command gets `accepted` or `refused`, and an accepted one `done` or `failed`. After a resume
those that were done later than the checkpoint are carried out again in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sf_tui.cases.assemble import StagePoint
from sf_tui.engine.checkpoint import Checkpoint
from sf_tui.engine.checkpoint_state import DamagedCheckpointError
from sf_tui.engine.layout import EMBEDDINGS
from sf_tui.engine.loop import TrainingLoop
from sf_tui.errors import RunError, SfError, UsageError
from sf_tui.profile import Rule
from sf_tui.run.state import CommandState
from sf_tui.vocabulary.events import CommandAnswered
from sf_tui.worker.anchor_control import AnchorControl
from sf_tui.worker.context import RunContext
from sf_tui.worker.ledger import MENDING_OPS, REPLAYED_OPS
from sf_tui.worker.mending import Mending
from sf_tui.worker.outcomes import (
    CommandFailedError,
    Rewind,
    StopRun,
    failing_alone,
    one_line,
)


class PlayedStage(Protocol):
    """What a command may use of the stage that is being played."""

    loop: TrainingLoop

    @property
    def anchor(self) -> AnchorControl:
        """What holds the stage to its start's answers."""

    @property
    def name(self) -> str:
        """The stage's name."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""

    def point(self) -> StagePoint:
        """Return where the stage is."""

    def save(self, *, asked_for: bool = False) -> Path:
        """Write a checkpoint of this step and return its folder."""

    def rewind(self, checkpoint: Checkpoint, reason: str) -> None:
        """Go back to a checkpoint of this stage."""

    def tell_probe(self) -> None:
        """Probe at this step."""

    def tell_drift(self) -> None:
        """Measure every layer's drift at this step."""


@dataclass(frozen=True)
class Command:
    """What somebody wants done."""

    id: str
    action: str
    arguments: Any
    """An object of JSON where nobody has written into the command log by hand."""
    by: str
    value: float | None = None
    """What made a rule fire."""


class Obeying:
    """Carries out the commands of one stage."""

    def __init__(self, context: RunContext, stage: PlayedStage) -> None:
        self._context = context
        self._stage = stage
        self._paused = False
        self._replays: list[CommandState] = []
        context.hear_stop = self._hear_stop
        self._mending = Mending(context, stage.point)
        self._ops: dict[str, Callable[[Command, dict[str, Any]], str | None]] = {
            "freeze": self._freeze,
            "unfreeze": self._unfreeze,
            "anchor": self._anchor,
            "unanchor": self._unanchor,
            "pause": self._pause,
            "resume": self._resume,
            "checkpoint": self._checkpoint,
            "rollback": self._rollback,
            "stop": self._stop,
            "diagnose": self._diagnose,
            **dict.fromkeys(MENDING_OPS, self._mend),
        }
        self._again: dict[str, Callable[[dict[str, Any]], Any]] = {
            "freeze": self._apply_freeze,
            "unfreeze": self._apply_unfreeze,
            "anchor": self._apply_anchor,
            "unanchor": self._apply_unanchor,
            **{op: partial(self._mending.mend, op) for op in MENDING_OPS},
        }

    @property
    def settled_seq(self) -> int:
        """The last event up to which every command of the log has had its effect."""
        # What waits for its step after a resume must be found again by the next one.
        waiting = [entry.seq for entry in self._replays]
        return min(waiting, default=self._context.log.seq + 1) - 1

    def remember_from(self, seq: int, step: int) -> None:
        """Take up the commands of this stage that the log tells and a checkpoint doesn't know.

        Args:
            seq: the last event that the checkpoint knows.
            step: the checkpoint's step.
        """
        ledger = self._context.ledger
        self._replays = ledger.to_replay(self._stage.name, seq)
        for entry in ledger.unfinished():
            if entry.stage != self._stage.name:
                continue
            rolled_back = entry.op == "rollback" and entry.seq < ledger.void_seq
            saved = entry.op == "checkpoint" and entry.seq <= seq
            if rolled_back or saved:
                self._answer_entry(entry, "done", None)
            elif entry.by in self._rule_names and entry.seq > seq and (entry.step or 0) > step:
                # The rule fires again where it fired, and `fire` goes on with it there.
                continue
            elif (
                entry.op in REPLAYED_OPS
                and entry.seq > ledger.void_seq
                # At the checkpoint's own step: a stop saved it while the command was at work.
                and (entry.seq > seq or entry.step == step)
            ):
                self._replays.append(entry)
            else:
                self._answer_entry(entry, "failed", "the worker ended before it was done")

    def forget(self) -> None:
        """Let go of what waits for its step: the stage was taken back to before it."""
        for entry in self._replays:
            if entry.status == "accepted":
                self._answer_entry(entry, "failed", "the stage was taken back to before it")
        self._replays.clear()

    @property
    def _rule_names(self) -> set[str]:
        return {rule.name for rule in self._context.profile.rules}

    def obey(self) -> bool:
        """Carry out what is due before the next step; tell whether the run is paused.

        Raises:
            StopRun: somebody wants the run to stop.
            Rewind: a rollback took the stage back.
        """
        for entry in [e for e in self._replays if (e.step or 0) <= self._stage.step]:
            self._repeat(entry)
        self._context.stop_if_signalled()
        # One at a time: what stands behind a rollback or a stop is read after it.
        for line in self._context.commands.iterate():
            self._carry_out(read_command(line))
        return self._paused

    def _hear_stop(self) -> None:
        """Carry out a stop that is asked for while another command is at work.

        What was asked for before it is refused, as whatever stands in the log when a run stops.
        """
        actions = self._context.profile.actions
        for line in self._context.commands.ahead():
            command = read_command(line)
            if command.action in actions and actions[command.action].op == "stop":
                self._carry_out(command)

    def fire(self, rule: Rule, value: float) -> None:
        """Carry out a rule's action, once even if this step is played again after a kill."""
        ledger = self._context.ledger
        identity = f"{rule.name}:{self._stage.name}:{self._stage.step}:{ledger.rewinds}"
        known = ledger.entries.get(identity)
        if known is not None and known.status == "done":
            # At this very place, before the checkpoint of the step, as it was the first time.
            if known in self._replays:
                self._repeat(known)
            return
        if known is not None and known.status != "accepted":
            return
        if known is None and rule.once and ledger.has_fired(rule.name):
            return
        self._carry_out(Command(identity, rule.action, dict(rule.args), rule.name, value))

    def _repeat(self, entry: CommandState) -> None:
        again = self._again[entry.op]
        if entry.status == "accepted":
            if entry.op in MENDING_OPS:
                self._stage.save(asked_for=True)
            try:
                with failing_alone(self._context.run.path):
                    again(entry.arguments)
            except CommandFailedError as error:
                self._answer_entry(entry, "failed", error.reason)
            else:
                self._answer_entry(entry, "done", None)
        else:
            again(entry.arguments)
        if entry.op in MENDING_OPS:
            # Readers have dropped what the first one's probe found.
            self._stage.tell_probe()
        # Only now: a stop in the middle of it leaves it to be done by the next worker.
        self._replays.remove(entry)

    def _carry_out(self, command: Command) -> None:
        known = self._context.ledger.entries.get(command.id)
        if known is not None and known.status != "accepted":
            return
        try:
            action = self._context.profile.action(command.action)
            if not isinstance(command.arguments, dict):
                raise UsageError(f"args = {command.arguments!r:.60}: wanted an object")
            arguments = action.arguments(command.arguments)
            if action.op == "anchor":
                arguments["strength"] = self._stage.anchor.resolve(arguments["strength"])
            arguments = self._mending.resolve(action.op, arguments)
            self._check(action.op, arguments)
        except SfError as error:
            self._answer(command, "", {}, "refused", one_line(error))
            return
        if action.op == "freeze":
            arguments["layers"] = self._context.prepared.freezer.resolve(arguments["layers"])
        if known is None:
            self._answer(command, action.op, arguments, "accepted", None)
        try:
            reason = self._ops[action.op](command, arguments)
        except CommandFailedError as error:
            self._answer(command, action.op, arguments, "failed", error.reason)
            return
        except RunError as error:
            self._answer(command, action.op, arguments, "failed", one_line(error))
            raise
        self._answer(command, action.op, arguments, "done", reason)
        if action.op == "rollback":
            raise Rewind

    def _check(self, op: str, arguments: dict[str, Any]) -> None:
        """Raise the reason for which a command can't be accepted."""
        freezer, stage = self._context.prepared.freezer, self._stage
        refusal = stage.loop.refusal(op)
        if refusal is not None:
            raise RunError(refusal)
        if op == "freeze":
            freezer.choose(arguments["layers"], embeddings=arguments["embeddings"])
        elif op == "unfreeze" and not freezer.frozen:
            raise RunError("nothing is frozen")
        elif op == "anchor":
            stage.anchor.check(arguments["strength"])
        elif op == "unanchor" and stage.anchor.strength is None:
            raise RunError("the stage is not anchored")
        elif op == "diagnose" or op in MENDING_OPS:
            self._mending.check()
        elif op == "pause" and self._paused:
            raise RunError("the run is paused already")
        elif op == "resume" and not self._paused:
            raise RunError("the run is not paused")
        elif op == "rollback":
            self._rollback_target(arguments)

    def _freeze(self, command: Command, arguments: dict[str, Any]) -> str | None:  # noqa: ARG002
        fresh = self._apply_freeze(arguments)
        # At once, so that whoever asked sees the layers marked before the next probe.
        self._stage.tell_drift()
        freezer = self._context.prepared.freezer
        said = f"frozen: {_span(fresh)}" if fresh else "it was frozen already"
        if EMBEDDINGS in fresh and freezer.freezes_output_head:
            said += "; the output projection is tied to the embeddings and frozen with them"
        return said

    def _apply_freeze(self, arguments: dict[str, Any]) -> list[str]:
        context, freezer = self._context, self._context.prepared.freezer
        layers, embeddings = arguments["layers"], arguments["embeddings"]
        # What the stage's own strategy froze is not held beyond its stage.
        asked_for = freezer.choose(layers, embeddings=embeddings)
        context.held += [name for name in asked_for if name not in context.held]
        return freezer.freeze(layers, embeddings=embeddings)

    def _unfreeze(self, command: Command, arguments: dict[str, Any]) -> str:  # noqa: ARG002
        freed = self._apply_unfreeze(arguments)
        self._stage.tell_drift()
        return f"free again: {_span(freed)}"

    def _apply_unfreeze(self, arguments: dict[str, Any]) -> list[str]:  # noqa: ARG002
        self._context.held = []
        return self._context.prepared.freezer.unfreeze()

    def _anchor(self, command: Command, arguments: dict[str, Any]) -> str:  # noqa: ARG002
        with failing_alone(self._context.run.path):
            return self._apply_anchor(arguments)

    def _apply_anchor(self, arguments: dict[str, Any]) -> str:
        said = self._stage.anchor.press(arguments["strength"])
        self._stage.anchor.held = arguments["strength"]
        return said

    def _unanchor(self, command: Command, arguments: dict[str, Any]) -> str:  # noqa: ARG002
        self._apply_unanchor(arguments)
        return "the steps that follow are plain ones"

    def _apply_unanchor(self, arguments: dict[str, Any]) -> None:  # noqa: ARG002
        self._stage.anchor.let_go()
        self._stage.anchor.held = None

    def _diagnose(self, command: Command, arguments: dict[str, Any]) -> str:  # noqa: ARG002
        with failing_alone(self._context.run.path):
            return self._mending.diagnose(arguments)

    def _mend(self, command: Command, arguments: dict[str, Any]) -> str:
        op = self._context.profile.action(command.action).op
        # A way back: without it a rollback would have to give up steps as well.
        self._stage.save(asked_for=True)
        with failing_alone(self._context.run.path):
            said = self._mending.mend(op, arguments)
        self._stage.tell_probe()
        return said

    def _pause(self, command: Command, arguments: dict[str, Any]) -> None:  # noqa: ARG002
        self._paused = True

    def _resume(self, command: Command, arguments: dict[str, Any]) -> None:  # noqa: ARG002
        self._paused = False

    def _checkpoint(self, command: Command, arguments: dict[str, Any]) -> str:  # noqa: ARG002
        return self._stage.save(asked_for=True).name

    def _rollback(self, command: Command, arguments: dict[str, Any]) -> str:  # noqa: ARG002
        stage = self._stage
        target = self._rollback_target(arguments)
        try:
            # Before anything is touched: the run goes on as it was.
            target.verify()
        except DamagedCheckpointError as error:
            raise CommandFailedError(f"{error.message}; roll back to another one") from error
        lost = stage.step - target.step
        stage.rewind(target, "rollback")
        return f"back at {target.path.name}, {lost} steps lost"

    def _rollback_target(self, arguments: dict[str, Any]) -> Checkpoint:
        name, step = self._stage.name, self._stage.step
        mended = self._context.ledger.mended_seq(name)
        return self._context.shelf.rollback_target(name, step, arguments["to"], mended)

    def _stop(self, command: Command, arguments: dict[str, Any]) -> None:  # noqa: ARG002
        raise StopRun(f"by {command.by}", command.id)

    def _answer(
        self,
        command: Command,
        op: str,
        arguments: dict[str, Any],
        status: str,
        reason: str | None,
    ) -> CommandAnswered:
        return self._context.log_event(
            CommandAnswered(
                id=command.id,
                action=command.action,
                op=op,
                arguments=arguments,
                by=command.by,
                value=command.value,
                status=status,
                stage=self._stage.name,
                step=self._stage.step,
                reason=reason,
            )
        )

    def _answer_entry(self, entry: CommandState, status: str, reason: str | None) -> None:
        command = Command(entry.id, entry.action, entry.arguments, entry.by)
        self._answer(command, entry.op, entry.arguments, status, reason)


def read_command(line: dict[str, Any]) -> Command:
    """Return the command of one line of the command log, however odd the line is."""
    arguments = line.get("args")
    return Command(
        str(line.get("id", "unnamed")),
        str(line.get("action", "")),
        {} if arguments is None else arguments,
        str(line.get("by", "user")),
    )


def _span(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}" if names else "nothing"
