"""Runs the commands that `sf_tui.worker.decisions` chooses, and answers each exactly once.

Of several ranks, all run them at the same step; rank 0 alone decides and answers.

A command is answered with `accepted` or `refused`, and an accepted one with `done`, `failed` or
`cancelled`; a cancel answers waiting commands, too.
After a resume, commands that finished after the checkpoint are applied again without an answer. The
implementations of the ops are in `sf_tui.worker.ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

from sf_tui.engine.exchange import copy_weights
from sf_tui.errors import RunError, SfError, UsageError
from sf_tui.vocabulary.commands import ACCEPTED, DONE, FAILED, REFUSED, Command
from sf_tui.vocabulary.ops import Op, op_named
from sf_tui.worker.answer_ops import register_answer_ops
from sf_tui.worker.beside import drop_beside, tend_beside
from sf_tui.worker.context import RunContext
from sf_tui.worker.decisions import CommandQueue, Decisions
from sf_tui.worker.lockstep import ending_alike
from sf_tui.worker.operation import Operation, OperationCancelled
from sf_tui.worker.ops import (
    NothingToDo,
    OpImplementation,
    OpTarget,
    StageControl,
    implementation_of,
)
from sf_tui.worker.pending import PendingCommands
from sf_tui.worker.recovery_ops import register_recovery_ops
from sf_tui.worker.stop import CommandFailedError, Rewind, StopRun, failing_alone, one_line

register_recovery_ops()
register_answer_ops()


class CommandRunner:
    """Runs the commands of one stage.

    Attributes:
        queue: decides which commands run next.
    """

    def __init__(self, context: RunContext, stage: StageControl) -> None:
        pending = PendingCommands(context, self._answer)
        self.queue = CommandQueue(context, stage.name, pending)
        self._context = context
        self._pending = pending
        self._target = OpTarget(context, stage, pending)
        context.poll_stop = self._interrupt

    def resume_from(self, seq: int, step: int) -> None:
        """Take over this stage's commands that are in the log but not in a checkpoint.

        Args:
            seq: the last event that the checkpoint includes.
            step: the checkpoint's step.
        """
        if self._context.ranks.is_main:
            for command, status, reason in self.queue.resume_from(seq, step):
                self._answer(command, status, reason)

    def drop_replays(self) -> None:
        """Drop what the stage was rewound to before: commands to apply again, and a test."""
        drop_beside(self._context, "the stage was taken back")
        for command in self.queue.drop_replays():
            self._answer(command, FAILED, "the stage was taken back to before it")

    def apply(self, decisions: Decisions) -> None:
        """Apply decisions.

        Raises:
            StopRun: the run must stop.
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
        tend_beside(self._context, paused=self._target.paused)
        # Commands before a stop are refused, like all pending commands when a run stops.
        step = self._target.stage.step
        self.apply(self._decide(lambda: self.queue.interruptions(step)))

    def before_step(self, step: int, *, probe: bool) -> Decisions:
        """Return the next actions of all ranks before a step, until they are final.

        Args:
            step: optimizer steps done.
            probe: whether the next step ends with a probe.
        """
        self._context.signals.share(self._context.ranks)
        target = self._target
        tend_beside(self._context, paused=target.paused)

        def decision() -> Decisions:
            return replace(self.queue.before_step(step, probe=probe), paused=target.paused)

        decisions = self._decide(decision)
        # A pause during an operation that rank 0 ran alone has reached no other rank.
        target.paused = decisions.paused
        return decisions

    def after_step(self, metrics: Mapping[str, float | None], step: int) -> Iterator[Decisions]:
        """Yield the decisions of the rules that fire after a step, to be applied on all ranks."""
        if not self._context.profile.rules:
            return
        fired = self.queue.after_step(metrics, step)
        none = Decisions(self._target.stage.name, step)
        while True:
            following = self._decide(lambda: next(fired, none))
            if following.is_final:
                return
            yield following

    def _decide(self, decision: Callable[[], Decisions]) -> Decisions:
        if self._context.ranks.world == 1:
            return decision()
        made = self._context.decide(lambda: decision().to_json().decode())
        return Decisions.from_json(made.encode())

    def _replay(self, command: Command) -> None:
        op, implementation = op_named(command.op), implementation_of(command.op)
        if command.status == ACCEPTED:
            if op.changes_weights:
                self._target.stage.save(asked_for=True)
            try:
                context = self._context
                with (
                    self._operation(op, command),
                    ending_alike(context.ranks),
                    failing_alone(context.run.path),
                ):
                    self._run(op, implementation, command, implementation.replay)
            except OperationCancelled:
                self._replayed(command)
                return
            except CommandFailedError as error:
                self._answer(command, FAILED, error.reason)
            else:
                self._answer(command, DONE)
        else:
            held = "the steps after it depend on it, so a resume repeats it"
            with self._operation(op, command, held=held):
                self._run(op, implementation, command, implementation.replay)
        self._arm(op)
        if op.changes_weights:
            # Readers discarded the results of the first probe.
            self._target.stage.tell_probe()
        # Last, so that the next worker repeats the command if a stop interrupts it.
        self._replayed(command)
        self._save_changed(op)

    def _replayed(self, command: Command) -> None:
        if self._context.ranks.is_main:
            self.queue.replayed(command)

    def _carry_out(self, command: Command) -> None:
        known = self._context.resume_log.commands.get(command.id)
        settled, refusal = self._context.decide(lambda: self._settle(command))
        if refusal is not None:
            self._answer(replace(command, arguments={}), REFUSED, refusal)
            return
        if settled is None:
            return
        # From rank 0 it comes as JSON.
        command = settled if isinstance(settled, Command) else Command(**settled)
        if known is None:
            self._answer(command, ACCEPTED)
        op = op_named(command.op)
        try:
            with failing_alone(self._context.run.path):
                if implementation_of(op.name).begin_beside(self._target, command):
                    return
            reason = self._apply(op, implementation_of(op.name), command)
        except OperationCancelled:
            # The cancel has answered it.
            return
        except CommandFailedError as error:
            self._answer(command, FAILED, error.reason)
            return
        except RunError as error:
            self._answer(command, FAILED, one_line(error))
            raise
        changed = not isinstance(reason, NothingToDo)
        self._answer(command, DONE, reason, changed=changed)
        self._save_changed(op)
        if op.ends_step:
            raise Rewind

    def _settle(self, command: Command) -> tuple[Command | None, str | None]:
        """Return a command to apply, or why it is refused; neither if it is answered already."""
        known = self._context.resume_log.commands.get(command.id)
        if known is not None and known.status != ACCEPTED:
            return None, None
        try:
            return self._resolve(command), None
        except SfError as error:
            return None, one_line(error)

    def _resolve(self, command: Command) -> Command:
        """Return a command with its op and all arguments; raise SfError if it is refused."""
        profile = self._context.profile
        action = profile.action(command.action)
        if not isinstance(command.arguments, dict):
            raise UsageError(f"arguments = {command.arguments!r:.60}: must be an object")
        op, arguments = op_named(action.op), action.arguments(command.arguments)
        self._pending.check_single(op)
        if op.settings:
            table = getattr(profile, op.settings)
            arguments = {
                name: getattr(table, name) if value is None else value
                for name, value in arguments.items()
            }
        if op.needs_old_task and not self._target.stage.point().watches_old:
            raise RunError("no watched task was learned before this stage, so nothing can be lost")
        refusal = self._target.stage.loop.refusal(op.name)
        if refusal is not None:
            raise RunError(refusal)
        arguments = implementation_of(op.name).check(self._target, arguments)
        return replace(command, op=op.name, arguments=arguments)

    def _apply(self, op: Op, implementation: OpImplementation, command: Command) -> str | None:
        stage = self._target.stage
        alone: AbstractContextManager[None] = (
            failing_alone(self._context.run.path) if implementation.fails_alone else nullcontext()
        )
        with self._operation(op, command):
            if op.changes_weights:
                # Without this checkpoint, a rollback would also lose steps.
                stage.save(asked_for=True)
            with ending_alike(self._context.ranks), alone:
                reason = self._run(op, implementation, command, implementation.apply)
        self._arm(op)
        if op.changes_weights or op.ends_step:
            # At once, so that no reader takes the scores of other weights for those of these.
            stage.tell_probe()
        return reason

    def _run(
        self,
        op: Op,
        implementation: OpImplementation,
        command: Command,
        work: Callable[[OpTarget, Command], str | None],
    ) -> str | None:
        """Run an op on every rank, or on rank 0 alone and give the others its weights.

        Args:
            op: the op.
            implementation: its implementation.
            command: its command.
            work: the implementation's `apply` or `replay`.
        """
        context, target = self._context, self._target
        ranks = context.ranks
        if op.changes_weights:
            drop_beside(context, f"{op.name} changes the weights")
        if ranks.world == 1 or ranks.lockstep or implementation.on_every_rank:
            reason = work(target, command)
        else:

            def decide() -> tuple[str | None, bool]:
                said = work(target, command)
                return said, isinstance(said, NothingToDo)

            reason, is_nothing = context.decide(decide)
            if is_nothing:
                reason = NothingToDo(reason)
            if op.changes_weights:
                copy_weights(ranks, context.prepared.layout, target.stage.loop.optimizer)
        more = implementation.follow_up(target, command)
        return f"{reason}; {more}" if reason and more else reason or more

    @contextmanager
    def _operation(self, op: Op, command: Command, *, held: str = "") -> Iterator[None]:
        """Announce a command that takes a while, and let a cancel end it.

        Args:
            op: its op.
            command: the command.
            held: why it can't be cancelled. It is a repetition then, which has its answer already
                and is not announced again.
        """
        if not op.doing:
            yield
            return
        context, stage = self._context, self._target.stage
        expected_s = context.resume_log.state.expected_seconds(op.name)
        here = replace(command, stage=stage.name, step=stage.step)
        context.operation = Operation(here, expected_s, held=held)
        if not held:
            context.log_event(context.operation.announcement())
        try:
            yield
        finally:
            context.operation = None

    def _arm(self, op: Op) -> None:
        # Before the probe, which alerts if what was lost is still lost.
        if op.endangers:
            self._target.stage.arm(op.name)

    def _save_changed(self, op: Op) -> None:
        """Save what an op made of the weights; its command must be done, or a resume repeats it."""
        if op.changes_weights:
            self._target.stage.save(asked_for=True)

    def _answer(
        self, command: Command, status: str, reason: str | None = None, *, changed: bool = True
    ) -> None:
        stage = self._target.stage
        here = replace(command, stage=stage.name, step=stage.step)
        self._context.log_event(here.answer(status, reason, changed=changed))
