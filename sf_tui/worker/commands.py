"""Carries out commands, from operators and from rules, and answers each of them exactly once.

A command gets `accepted` or `refused`, and an accepted one `done` or `failed`. After a resume,
those that were done later than the checkpoint are applied again without an answer. What an op does
is in its implementation (`sf_tui.worker.ops`); when it is done is decided in
`sf_tui.worker.decisions`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from sf_tui.errors import RunError, SfError, UsageError
from sf_tui.vocabulary.commands import ACCEPTED, DONE, FAILED, REFUSED, Command
from sf_tui.vocabulary.ops import Op, op_named
from sf_tui.worker.context import RunContext
from sf_tui.worker.decisions import CommandQueue, Decisions
from sf_tui.worker.ops import OpImplementation, OpTarget, StageControl, implementation_of
from sf_tui.worker.recovery_ops import register_recovery_ops
from sf_tui.worker.stop import CommandFailedError, Rewind, StopRun, failing_alone, one_line

register_recovery_ops()


class CommandRunner:
    """Carries out the commands of one stage.

    Attributes:
        queue: decides what is to be carried out next.
    """

    def __init__(self, context: RunContext, stage: StageControl) -> None:
        self.queue = CommandQueue(context, stage.name)
        self._context = context
        self._target = OpTarget(context, stage)
        context.poll_stop = self._interrupt

    @property
    def paused(self) -> bool:
        """Whether the stage waits for a resume."""
        return self._target.paused

    def resume_from(self, seq: int, step: int) -> None:
        """Take over the commands of this stage that the log has and a checkpoint does not.

        Args:
            seq: the last event that the checkpoint includes.
            step: the checkpoint's step.
        """
        for command, status, reason in self.queue.resume_from(seq, step):
            self._answer(command, status, reason)

    def drop_replays(self) -> None:
        """Give up the commands that wait for their step: the stage was rewound to before it."""
        for command in self.queue.drop_replays():
            self._answer(command, FAILED, "the stage was taken back to before it")

    def apply(self, decisions: Decisions) -> None:
        """Do what was decided.

        Raises:
            StopRun: the run is to stop.
            Rewind: a rollback rewound the stage.
            RunError: a command failed in a way that ends the run.
        """
        for command in decisions.replays:
            self._replay(command)
        if decisions.stop:
            raise StopRun(decisions.stop)
        for command in decisions.commands:
            self._carry_out(command)

    def _interrupt(self) -> None:
        # The commands before a stop are refused, like all that are waiting when a run stops.
        self.apply(self.queue.interruptions(self._target.stage.step))

    def _replay(self, command: Command) -> None:
        op, implementation = op_named(command.op), implementation_of(command.op)
        if command.status == ACCEPTED:
            if op.changes_weights:
                self._target.stage.save(asked_for=True)
            try:
                with failing_alone(self._context.run.path):
                    implementation.replay(self._target, command)
            except CommandFailedError as error:
                self._answer(command, FAILED, error.reason)
            else:
                self._answer(command, DONE)
        else:
            implementation.replay(self._target, command)
        if op.changes_weights:
            # Readers have dropped the results of the first probe.
            self._target.stage.tell_probe()
        # Only now: if a stop interrupts this, the next worker does it.
        self.queue.replayed(command)

    def _carry_out(self, command: Command) -> None:
        known = self._context.resume_log.commands.get(command.id)
        if known is not None and known.status != ACCEPTED:
            return
        try:
            command = self._resolve(command)
        except SfError as error:
            self._answer(replace(command, arguments={}), REFUSED, one_line(error))
            return
        if known is None:
            self._answer(command, ACCEPTED)
        op = op_named(command.op)
        try:
            reason = self._apply(op, implementation_of(op.name), command)
        except CommandFailedError as error:
            self._answer(command, FAILED, error.reason)
            return
        except RunError as error:
            self._answer(command, FAILED, one_line(error))
            raise
        self._answer(command, DONE, reason)
        if op.ends_step:
            raise Rewind

    def _resolve(self, command: Command) -> Command:
        """Return a command with its op and all arguments, or raise why it is refused."""
        profile = self._context.profile
        action = profile.action(command.action)
        if not isinstance(command.arguments, dict):
            raise UsageError(f"arguments = {command.arguments!r:.60}: wanted an object")
        op, arguments = op_named(action.op), action.arguments(command.arguments)
        if op.settings:
            table = getattr(profile, op.settings)
            arguments = {
                name: getattr(table, name) if value is None else value
                for name, value in arguments.items()
            }
        if op.needs_old_task and not self._target.stage.point().watches_old:
            raise RunError("no watched task was learned before this stage: there is none to lose")
        refusal = self._target.stage.loop.refusal(op.name)
        if refusal is not None:
            raise RunError(refusal)
        arguments = implementation_of(op.name).check(self._target, arguments)
        return replace(command, op=op.name, arguments=arguments)

    def _apply(self, op: Op, implementation: OpImplementation, command: Command) -> str | None:
        stage = self._target.stage
        if op.changes_weights:
            # A way back: without it a rollback would have to give up steps as well.
            stage.save(asked_for=True)
        alone: AbstractContextManager[None] = (
            failing_alone(self._context.run.path) if implementation.fails_alone else nullcontext()
        )
        with alone:
            reason = implementation.apply(self._target, command)
        if op.changes_weights:
            stage.tell_probe()
        return reason

    def _answer(self, command: Command, status: str, reason: str | None = None) -> None:
        stage = self._target.stage
        here = replace(command, stage=stage.name, step=stage.step)
        self._context.log_event(here.answer(status, reason))
