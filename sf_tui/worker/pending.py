"""What a cancel can end: the operation under way, and the commands that wait for their turn."""

from __future__ import annotations

from collections.abc import Callable

from sf_tui.errors import RunError
from sf_tui.vocabulary.commands import ACCEPTED, CANCELLED, Command
from sf_tui.vocabulary.ops import CANCEL, Op, op_named
from sf_tui.worker.beside import cancel_beside
from sf_tui.worker.context import RunContext

ALL = "all"
"""The argument of a cancel that ends everything."""


class PendingCommands:
    """The commands of a run that have no final answer yet.

    Args:
        context: the run.
        answer: logs an answer: a command, its new status, the reason.
    """

    def __init__(
        self, context: RunContext, answer: Callable[[Command, str, str | None], None]
    ) -> None:
        self._context = context
        self._answer = answer

    def op_of(self, command: Command) -> Op:
        """Return the op that a command of the command log asks for; one without a name if none."""
        action = self._context.profile.actions.get(command.action)
        return op_named("" if action is None else action.op)

    def waiting(self) -> list[Command]:
        """Return the commands that wait, oldest first."""
        known = self._context.resume_log.commands
        under_way = {command.id for command in self._under_way}

        def is_answered(command: Command) -> bool:
            if command.id in under_way:
                return True
            return command.id in known and known[command.id].status != ACCEPTED

        return self._context.commands.waiting(is_answered)

    def next(self) -> Command | None:
        """Return the command to decide on before a step: a cancel comes before what it drops."""
        waiting = self.waiting()
        cancels = (one for one in waiting if self.op_of(one).name == CANCEL)
        return next(cancels, waiting[0] if waiting else None)

    def ahead(self) -> list[Command]:
        """Return the waiting commands that are decided on while an operation is under way.

        Those that act at once, and those that are refused at once because the same op is under way
        or waits already.
        """
        under_way = {command.op for command in self._under_way}
        found, seen = [], set[str]()
        for command in self.waiting():
            op = self.op_of(command)
            # Beside a test alone, the first one that waits is about to have its turn.
            others = seen if self._context.operation is not None else set[str]()
            is_repeat = op.one_at_a_time and op.name in under_way | others
            if op.interrupts or is_repeat:
                found.append(command)
            seen.add(op.name)
        return found

    @property
    def _under_way(self) -> list[Command]:
        """The command of the operation under way, and that of a test beside the training."""
        operation, beside = self._context.operation, self._context.beside
        return [one.command for one in (operation, beside) if one is not None]

    def check_single(self, op: Op) -> None:
        """Refuse an op of which there is one at a time while another one is pending.

        Raises:
            RunError: the same op is under way, or waits already.
        """
        if not op.one_at_a_time:
            return
        same = next((one for one in self._under_way if one.op == op.name), None)
        if same is not None:
            raise RunError(
                f"already under way, asked for by {same.sender}",
                "cancel ends it (esc in the console)",
            )
        operation = self._context.operation
        if operation is None:
            return
        # It was taken out of turn because an earlier one waits.
        raise RunError(
            f"a {op.name} waits already, behind the {operation.command.op} that is under way",
            f"`{CANCEL} {op.name}` drops that one",
        )

    def chosen(self, which: str | None) -> list[Command]:
        """Return the commands that a cancel ends, the operation under way first.

        An operation that a resume repeats goes on; what waits behind it can be cancelled.

        Args:
            which: an id, an action, or `ALL`; None: what is under way, else all that wait.

        Raises:
            RunError: there is no such command, or it can't be cancelled.
        """
        operation = self._context.operation
        waiting = [one for one in self.waiting() if self.op_of(one).name != CANCEL]
        running = [
            one
            for one in self._under_way
            if operation is None or one is not operation.command or not operation.is_cancelled
        ]
        held = [
            one
            for one in running
            if operation is not None and one is operation.command and operation.held
        ]
        running = [one for one in running if one not in held]
        if which is None:
            found = running or waiting
        elif which == ALL:
            found = [*running, *waiting]
        else:
            found = [one for one in (*running, *waiting) if which in (one.id, one.action)]
        if found:
            return found
        if operation is not None and any(which in (None, ALL, o.id, o.action) for o in held):
            raise RunError(f"{operation.command.action} can't be cancelled: {operation.held}")
        known = which is not None and which != ALL
        raise RunError(
            f"no {which} is under way or waits" if known else "nothing is under way or waits"
        )

    def cancel(self, which: str | None, by: str) -> str:
        """End commands, and return which, for the answer.

        The operation under way ends at its next pass; its answer is logged now, so that a kill
        meanwhile doesn't bring it back.
        """
        operation, beside = self._context.operation, self._context.beside
        # Another rank may not see yet what waits in the folder of commands.
        chosen = self._context.decide(lambda: self.chosen(which))
        found = [one if isinstance(one, Command) else Command(**one) for one in chosen]
        for command in found:
            if operation is not None and command.id == operation.command.id:
                operation.is_cancelled = True
                self._answer(command, CANCELLED, f"by {by}; the run is as it was before")
            elif beside is not None and command.id == beside.command.id:
                cancel_beside(self._context, by)
            else:
                self._answer(command, CANCELLED, f"by {by}, before it began")
        told = f"cancelled: {', '.join(command.action for command in found)}"
        if operation is not None and operation.held:
            told += f"; {operation.command.action} goes on: {operation.held}"
        return told
