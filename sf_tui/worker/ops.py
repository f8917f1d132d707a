"""The implementations of the ops: how each is checked, applied, and applied again on a resume.

The arguments and meaning of an op are declared in its row in `sf_tui.vocabulary.ops`. Another
package registers its implementation with `register_implementation`, under the name of the row.
Recovery test, repair and edits depend only on the weights, the profile and the seed, so a resume
repeats them exactly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from sf_tui.cases.assemble import RunCase, StagePoint, live_case
from sf_tui.cases.operations import diagnose, repair
from sf_tui.cases.rows import CaseNeeds
from sf_tui.engine.checkpoint import Checkpoint
from sf_tui.engine.checkpoint_state import DamagedCheckpointError
from sf_tui.engine.layout import EMBEDDINGS
from sf_tui.engine.loop import TrainingLoop
from sf_tui.errors import RunError
from sf_tui.recovery.repair import RepairOutcome, edit_model
from sf_tui.vocabulary.commands import Command
from sf_tui.vocabulary.ops import edit_names
from sf_tui.worker.anchor_control import AnchorControl
from sf_tui.worker.context import RunContext
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

    def save(self, *, asked_for: bool = False) -> Path:
        """Write a checkpoint of this step and return its folder."""

    def rewind(self, checkpoint: Checkpoint, reason: str) -> None:
        """Rewind to a checkpoint of this stage."""

    def tell_probe(self) -> None:
        """Probe all tasks at this step and log the results."""

    def tell_drift(self) -> None:
        """Log the drift of every layer at this step."""


@dataclass
class OpTarget:
    """The target of an op.

    Attributes:
        context: the run.
        stage: the running stage.
        paused: whether the stage waits for a resume before its next step.
    """

    context: RunContext
    stage: StageControl
    paused: bool = False


class OpImplementation(ABC):
    """Implementation of an op, which runs between two optimizer steps."""

    fails_alone: ClassVar[bool] = True
    """Whether a system failure inside `apply` fails only the command, and the run continues."""

    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return the arguments for `apply`.

        Args:
            target: the target of the op; not modified.
            arguments: all arguments of the op, validated, with the profile's defaults.

        Raises:
            SfError: the command is refused, for this reason.
        """
        return arguments

    @abstractmethod
    def apply(self, target: OpTarget, command: Command) -> str | None:
        """Run the op, and return one line for the answer.

        Raises:
            CommandFailedError: the op failed; the run is unchanged.
            RunError: the op failed; the run ends, unless `fails_alone`.
        """

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


class _Freeze(OpImplementation):
    fails_alone = False

    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        freezer = target.context.prepared.freezer
        freezer.choose(arguments["layers"], embeddings=arguments["embeddings"])
        return arguments | {"layers": freezer.resolve(arguments["layers"])}

    def apply(self, target: OpTarget, command: Command) -> str:
        fresh = self._freeze(target, command.arguments)
        # Now, so that the operator sees the frozen layers before the next probe.
        target.stage.tell_drift()
        done = f"frozen: {_span(fresh)}" if fresh else "it was frozen already"
        if EMBEDDINGS in fresh and target.context.prepared.freezer.freezes_output_head:
            done += "; the output projection is tied to the embeddings and frozen with them"
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


class _Unfreeze(OpImplementation):
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


class _Anchor(OpImplementation):
    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        target.stage.anchor.check(arguments["strength"])
        return arguments

    def apply(self, target: OpTarget, command: Command) -> str:
        done = target.stage.anchor.press(command.arguments["strength"])
        target.stage.anchor.sticky = command.arguments["strength"]
        return done


class _Unanchor(OpImplementation):
    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        if target.stage.anchor.strength is None:
            raise RunError("the stage is not anchored")
        return arguments

    def apply(self, target: OpTarget, command: Command) -> str:  # noqa: ARG002
        target.stage.anchor.release()
        target.stage.anchor.sticky = None
        return "the steps that follow are plain ones"


class _Pause(OpImplementation):
    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        if target.paused:
            raise RunError("the run is paused already")
        return arguments

    def apply(self, target: OpTarget, command: Command) -> None:  # noqa: ARG002
        target.paused = True


class _Resume(OpImplementation):
    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        if not target.paused:
            raise RunError("the run is not paused")
        return arguments

    def apply(self, target: OpTarget, command: Command) -> None:  # noqa: ARG002
        target.paused = False


class _Save(OpImplementation):
    # End the run if a checkpoint can't be written: later steps would be lost.
    fails_alone = False

    def apply(self, target: OpTarget, command: Command) -> str:  # noqa: ARG002
        return target.stage.save(asked_for=True).name


class _Rollback(OpImplementation):
    fails_alone = False

    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        self._checkpoint(target, arguments)
        return arguments

    def apply(self, target: OpTarget, command: Command) -> str:
        stage = target.stage
        checkpoint = self._checkpoint(target, command.arguments)
        try:
            # Verify before anything changes, so that the run can continue on failure.
            checkpoint.verify()
        except DamagedCheckpointError as error:
            raise CommandFailedError(f"{error.message}; roll back to another one") from error
        lost = stage.step - checkpoint.step
        stage.rewind(checkpoint, "rollback")
        return f"back at {checkpoint.path.name}, {lost} steps lost"

    def _checkpoint(self, target: OpTarget, arguments: dict[str, Any]) -> Checkpoint:
        context, stage = target.context, target.stage
        return context.shelf.rollback_target(
            stage.name, stage.step, arguments["to"], context.resume_log.edited_seq(stage.name)
        )


class _Stop(OpImplementation):
    fails_alone = False

    def apply(self, target: OpTarget, command: Command) -> None:  # noqa: ARG002
        raise StopRun(f"by {command.by}", command.id)


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
    "stop": _Stop(),
}.items():
    register_implementation(_name, _implementation)


class _Diagnose(OpImplementation):
    def apply(self, target: OpTarget, command: Command) -> str:
        """Run the recovery test, log its event, and return the verdict as text."""
        context, arguments = target.context, command.arguments
        found = diagnose(
            _case(target, examples=arguments["examples"], every_row=arguments["thorough"]),
            examples=arguments["examples"],
            thorough=arguments["thorough"],
            time_s=arguments["time"],
            log=lambda _: context.stop_if_asked(),
            on_step=lambda _: context.stop_if_asked(),
        )
        context.log_event(found.event)
        finding = found.outcome.finding
        return f"{finding.name}: {finding.evidence[0]}"


class _Recover(OpImplementation):
    def apply(self, target: OpTarget, command: Command) -> str:
        context, arguments = target.context, command.arguments
        frozen = bool(context.prepared.freezer.frozen)
        found = repair(
            _case(target, examples=arguments["examples"], every_row=False),
            examples=arguments["examples"],
            steps=arguments["steps"],
            strength=arguments["strength"],
            # Frozen weights must stay bit-identical.
            keep=1.0 if frozen else None,
            log=lambda _: context.stop_if_asked(),
            on_step=lambda _: context.stop_if_asked(),
            thaw=not frozen,
        )
        return _summary(found)


class _Edit(OpImplementation):
    def apply(self, target: OpTarget, command: Command) -> str:
        found = edit_model(
            _case(target, examples=0, every_row=False).case, command.op, command.arguments
        )
        return _summary(found)


def register_recovery_ops() -> None:
    """Register the implementations of diagnose, recover and the edits."""
    register_implementation("diagnose", _Diagnose())
    register_implementation("recover", _Recover())
    for name in edit_names():
        register_implementation(name, _Edit())


def _case(target: OpTarget, *, examples: int, every_row: bool) -> RunCase:
    context, point = target.context, target.stage.point()
    return live_case(
        point,
        context.prepared,
        context.resume_log.state,
        context.accuracy,
        context.shelf.start(point.spec.name),
        CaseNeeds(examples, every_row),
        context.stop_if_asked,
    )


def _summary(found: RepairOutcome) -> str:
    parts = [
        f"{name} {before:.2f} to {after:.2f}"
        for name, before, after in (
            ("old", found.old.before, found.old.after),
            ("new", found.new.before, found.new.after),
        )
        if before is not None and after is not None
    ]
    steps = f" in {found.steps} steps, {found.seconds:.0f} s" if found.by == "neighbors" else ""
    return ", ".join(parts) + steps
