"""The implementations of the ops: how each is checked, applied, and applied again on a resume.

The arguments and meaning of an op are declared in its row in `sf_tui.vocabulary.ops`. Another
package registers its implementation with `register_implementation`, under the name of the row.
Diagnose, recover and the edits are in `sf_tui.worker.recovery_ops`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from sf_tui.cases.assemble import StagePoint
from sf_tui.engine.checkpoint import Checkpoint, read_checkpoint
from sf_tui.engine.checkpoint_state import DamagedCheckpointError
from sf_tui.engine.layout import EMBEDDINGS
from sf_tui.engine.loop import TrainingLoop
from sf_tui.errors import RunError
from sf_tui.vocabulary.commands import Command
from sf_tui.vocabulary.ops import CANCEL
from sf_tui.vocabulary.sizes import counted
from sf_tui.worker.anchor_control import AnchorControl
from sf_tui.worker.context import RunContext
from sf_tui.worker.pending import PendingCommands
from sf_tui.worker.stop import CommandFailedError, StopRun


class StageControl(Protocol):
    """The interface of the running stage for ops."""

    loop: TrainingLoop

    @property
    def anchor(self) -> AnchorControl:
        """The stage's anchor."""

    @property
    def name(self) -> str:
        """The stage's name."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""

    def point(self) -> StagePoint:
        """Return the stage's current position."""

    def checkpoint(self) -> str:
        """Write the checkpoint that an operator asks for, and return its name."""

    def save(self, *, asked_for: bool = False) -> Path:
        """Write a checkpoint of this step and return its folder."""

    def rewind(self, checkpoint: Checkpoint, reason: str) -> None:
        """Rewind to a checkpoint of this stage."""

    def tell_probe(self) -> None:
        """Probe all tasks at this step and log the results."""

    def tell_drift(self) -> None:
        """Log the drift of every layer at this step."""

    def arm(self, cause: str) -> None:
        """Open a danger window at this step and arm the alerts again, after the op `cause`."""


@dataclass
class OpTarget:
    """The target of an op.

    Attributes:
        context: the run.
        stage: the running stage.
        pending: the commands without a final answer.
        paused: whether the stage waits for a resume before its next step.
    """

    context: RunContext
    stage: StageControl
    pending: PendingCommands
    paused: bool = False


class NothingToDo(str):
    """The answer of an op that found nothing to do; charts don't mark it."""

    __slots__ = ()


class OpImplementation(ABC):
    """Implementation of an op, which runs between two optimizer steps."""

    fails_alone: ClassVar[bool] = True
    """Whether a system failure inside `apply` fails only the command, and the run continues."""

    on_every_rank: ClassVar[bool] = False
    """Whether each of several ranks applies it. Otherwise rank 0 does, and the others take its
    weights: what it changes beside weights belongs in `follow_up`."""

    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return the arguments for `apply`.

        Args:
            target: the target of the op; not modified.
            arguments: all arguments of the op, validated, with the profile's defaults.

        Raises:
            SfError: the command is refused, for this reason.
        """
        return arguments

    def begin_beside(self, target: OpTarget, command: Command) -> bool:  # noqa: ARG002
        """Start the op in a process of its own, if it runs beside the training; return whether.

        It is then answered when that process is done, and `apply` is not called.

        Raises:
            CommandFailedError: it can't be started; the run is unchanged.
        """
        return False

    @abstractmethod
    def apply(self, target: OpTarget, command: Command) -> str | None:
        """Run the op, and return one line for the answer.

        Raises:
            CommandFailedError: the op failed; the run is unchanged.
            RunError: the op failed; the run ends, unless `fails_alone`.
        """

    def follow_up(self, target: OpTarget, command: Command) -> str | None:  # noqa: ARG002
        """Do on every rank what follows `apply` or `replay`, and return what the answer adds."""
        return None

    def replay(self, target: OpTarget, command: Command) -> None:
        """Run the op again after a resume, at the same step, with the same effect on the weights.

        Called only for an op whose row is `replayed`.
        """
        self.apply(target, command)


_IMPLEMENTATIONS: dict[str, OpImplementation] = {}


def register_implementation(name: str, implementation: OpImplementation) -> None:
    """Register the implementation of an op, replacing any earlier one."""
    _IMPLEMENTATIONS[name] = implementation


def implementation_of(name: str) -> OpImplementation:
    """Return the implementation of an op.

    Raises:
        RunError: none is registered.
    """
    if name not in _IMPLEMENTATIONS:
        raise RunError(
            f"op '{name}' has no implementation in this worker",
            "import the package that registers it before the run is started",
        )
    return _IMPLEMENTATIONS[name]


class _OnEveryRank(OpImplementation):
    """An op on what each rank has of its own, such as the frozen layers."""

    on_every_rank = True


class _Freeze(_OnEveryRank):
    fails_alone = False

    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        freezer = target.context.prepared.freezer
        freezer.choose(arguments["layers"], embeddings=arguments["embeddings"])
        return arguments | {"layers": freezer.resolve(arguments["layers"])}

    def apply(self, target: OpTarget, command: Command) -> str:
        kept = list(target.context.sticky_frozen)
        fresh = self._freeze(target, command.arguments)
        if not fresh:
            if kept == target.context.sticky_frozen:
                return NothingToDo("it was frozen already")
            return "it was frozen already; from now on it stays so in later stages"
        # Now, so that the operator sees the frozen layers before the next probe.
        target.stage.tell_drift()
        done = f"frozen: {_span(fresh)}"
        if EMBEDDINGS in fresh and target.context.prepared.freezer.freezes_output_head:
            done += "; the output projection is tied to the embeddings and frozen with them"
        if EMBEDDINGS in fresh and not target.context.prepared.freezer.trains_embeddings:
            done += "; nothing trains in the embeddings: the adapter has no part there"
        return done

    def replay(self, target: OpTarget, command: Command) -> None:
        self._freeze(target, command.arguments)

    def _freeze(self, target: OpTarget, arguments: dict[str, Any]) -> list[str]:
        context, freezer = target.context, target.context.prepared.freezer
        layers, embeddings = arguments["layers"], arguments["embeddings"]
        # Layers frozen by the stage's own strategy do not stay frozen after the stage.
        wanted = freezer.choose(layers, embeddings=embeddings)
        context.sticky_frozen += [n for n in wanted if n not in context.sticky_frozen]
        return freezer.freeze(layers, embeddings=embeddings)


class _Unfreeze(_OnEveryRank):
    fails_alone = False

    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        if not target.context.prepared.freezer.frozen:
            raise RunError("nothing is frozen")
        return arguments

    def apply(self, target: OpTarget, command: Command) -> str:
        freed = target.context.prepared.freezer.frozen
        self.replay(target, command)
        target.stage.tell_drift()
        return f"free again: {_span(freed)}"

    def replay(self, target: OpTarget, command: Command) -> None:  # noqa: ARG002
        target.context.sticky_frozen = []
        target.context.prepared.freezer.unfreeze()


class _Anchor(_OnEveryRank):
    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        target.stage.anchor.check(arguments["strength"])
        return arguments

    def apply(self, target: OpTarget, command: Command) -> str:
        done = target.stage.anchor.press(command.arguments["strength"])
        target.stage.anchor.sticky = command.arguments["strength"]
        return done


class _Unanchor(_OnEveryRank):
    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        if target.stage.anchor.strength is None:
            raise RunError("the stage is not anchored")
        return arguments

    def apply(self, target: OpTarget, command: Command) -> str:  # noqa: ARG002
        target.stage.anchor.release()
        target.stage.anchor.sticky = None
        return "the steps that follow are plain ones"


class _Pause(_OnEveryRank):
    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        if target.paused:
            raise RunError("the run is paused already")
        return arguments

    def apply(self, target: OpTarget, command: Command) -> None:  # noqa: ARG002
        target.paused = True


class _Resume(_OnEveryRank):
    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        if not target.paused:
            raise RunError("the run is not paused")
        return arguments

    def apply(self, target: OpTarget, command: Command) -> None:  # noqa: ARG002
        target.paused = False


class _Save(_OnEveryRank):
    # End the run if a checkpoint can't be written: later steps would be lost.
    fails_alone = False

    def apply(self, target: OpTarget, command: Command) -> str:  # noqa: ARG002
        return target.stage.checkpoint()


class _Rollback(_OnEveryRank):
    fails_alone = False

    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        self._checkpoint(target, arguments)
        return arguments

    def apply(self, target: OpTarget, command: Command) -> str:
        stage = target.stage
        path = target.context.decide(lambda: str(self._verified(target, command.arguments).path))
        checkpoint = read_checkpoint(Path(path))
        assert checkpoint is not None  # it was verified just now
        lost = stage.step - checkpoint.step
        before = Protection.of(target)
        stage.rewind(checkpoint, "rollback")
        also = Protection.of(target).changes_since(before)
        done = f"back at {checkpoint.path.name}, {counted(lost, 'step')} lost"
        return f"{done}; it also {' and '.join(also)}" if also else done

    def _verified(self, target: OpTarget, arguments: dict[str, Any]) -> Checkpoint:
        checkpoint = self._checkpoint(target, arguments)
        try:
            # Verify before anything changes, so that the run can continue on failure.
            checkpoint.verify()
        except DamagedCheckpointError as error:
            raise CommandFailedError(f"{error.message}; roll back to another one") from error
        return checkpoint

    def _checkpoint(self, target: OpTarget, arguments: dict[str, Any]) -> Checkpoint:
        context, stage = target.context, target.stage
        log = context.resume_log
        return context.shelf.rollback_target(
            stage.name,
            stage.step,
            arguments["to"],
            log.edited_seq(stage.name),
            log.rewound_seq,
        )


class _Cancel(OpImplementation):
    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        target.pending.chosen(arguments["command"])
        return arguments

    def apply(self, target: OpTarget, command: Command) -> str:
        return target.pending.cancel(command.arguments["command"], command.sender)


class _Stop(_OnEveryRank):
    fails_alone = False

    def apply(self, target: OpTarget, command: Command) -> None:  # noqa: ARG002
        raise StopRun(f"by {command.sender}", command.id)


@dataclass(frozen=True)
class Protection:
    """What holds a stage at one moment: frozen layers, and the strength of its anchor."""

    frozen: tuple[str, ...]
    anchor: float | None

    @classmethod
    def of(cls, target: OpTarget) -> Protection:
        """Return a stage's current protection."""
        frozen = target.context.prepared.freezer.frozen
        return cls(tuple(frozen), target.stage.anchor.strength)

    def changes_since(self, before: Protection) -> list[str]:
        """Return what differs from an earlier moment, as phrases for the answer of a rollback."""
        found = []
        freed = [name for name in before.frozen if name not in self.frozen]
        fresh = [name for name in self.frozen if name not in before.frozen]
        if freed:
            found.append(f"unfroze {counted(len(freed), 'layer')} ({_span(freed)})")
        if fresh:
            found.append(f"froze {counted(len(fresh), 'layer')} again ({_span(fresh)})")
        if before.anchor != self.anchor:
            if self.anchor is None:
                found.append("released the anchor")
            elif before.anchor is None:
                found.append(f"anchored the stage again, with strength {self.anchor:g}")
            else:
                found.append(f"set the anchor's strength back to {self.anchor:g}")
        return found


def _span(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}" if names else "nothing"


for _name, _implementation in {
    "freeze": _Freeze(),
    "unfreeze": _Unfreeze(),
    "anchor": _Anchor(),
    "unanchor": _Unanchor(),
    "pause": _Pause(),
    "resume": _Resume(),
    "checkpoint": _Save(),
    "rollback": _Rollback(),
    CANCEL: _Cancel(),
    "stop": _Stop(),
}.items():
    register_implementation(_name, _implementation)
