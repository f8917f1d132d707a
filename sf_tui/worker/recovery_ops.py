"""The implementations of the ops that test a loss, repair it, or edit the weights.

They depend only on the weights, the profile and the seed, so a resume repeats them exactly. A
repair also anchors the stage on request, and treats frozen layers as `frozen_repair` says.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sf_tui.cases.assemble import RunCase, live_case
from sf_tui.cases.operations import diagnose, repair
from sf_tui.cases.rows import CaseNeeds
from sf_tui.engine.aside import room_for_test
from sf_tui.engine.loop import StageTuner
from sf_tui.recovery.outcome import RepairOutcome
from sf_tui.recovery.repair import edit_model
from sf_tui.vocabulary.commands import Command
from sf_tui.vocabulary.ops import edit_names
from sf_tui.vocabulary.sizes import counted
from sf_tui.worker.beside import check_beside, start_beside
from sf_tui.worker.frozen_repair import frozen_for_repair
from sf_tui.worker.ops import OpImplementation, OpTarget, register_implementation
from sf_tui.worker.stop import CommandFailedError


class _Diagnose(OpImplementation):
    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments; while training waits anyway, nothing runs beside it."""
        beside = arguments["beside"] and not target.paused
        if beside:
            check_beside(target.context, target.stage.loop)
        return arguments | {"beside": beside}

    def begin_beside(self, target: OpTarget, command: Command) -> bool:
        """Start the test beside the training if it is to run there."""
        if command.arguments["beside"]:
            start_beside(target.context, target.stage.point(), command)
        return bool(command.arguments["beside"])

    def apply(self, target: OpTarget, command: Command) -> str:
        """Run the recovery test, log its event, and return the verdict as text."""
        context, arguments = target.context, command.arguments
        with _room(target):
            found = diagnose(
                _case(target, examples=arguments["examples"], every_row=arguments["thorough"]),
                examples=arguments["examples"],
                thorough=arguments["thorough"],
                time_s=arguments["time"],
                report=context.report,
            )
        context.log_event(found.event)
        finding = found.outcome.finding
        return f"{finding.name}: {finding.evidence[0]}"


class _Recover(OpImplementation):
    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments; `then_anchor` is true only if the stage will be anchored by it."""
        anchors = arguments["then_anchor"] and target.stage.anchor.strength is None
        return arguments | {"then_anchor": anchors and _why_no_anchor(target) is None}

    def apply(self, target: OpTarget, command: Command) -> str:
        """Repair, and return what came of it; `follow_up` anchors the stage if asked to."""
        context, arguments = target.context, command.arguments
        anchor = target.stage.anchor
        if arguments["then_anchor"]:
            # First, so that nothing can fail once the weights are changed.
            anchor.prepare()
        case = _case(target, examples=arguments["examples"], every_row=False)
        with (
            _room(target),
            frozen_for_repair(
                context.prepared.freezer,
                context.prepared.layout,
                case.case.start,
                keep_all=arguments["keep_frozen"],
            ) as frozen,
        ):
            found = repair(
                case,
                examples=arguments["examples"],
                steps=arguments["steps"],
                strength=arguments["strength"],
                new_floor=arguments["new_floor"],
                # Scaling back would move a layer that has to stay as it is.
                keep=1.0 if frozen.moved_stay else None,
                report=context.report,
                thaw=not frozen.staying,
            )
        parts = [_summary(found), frozen.summary]
        return "; ".join(part for part in parts if part)

    def follow_up(self, target: OpTarget, command: Command) -> str:
        """Anchor the stage if the command asks for it; return how it is held from now on."""
        anchor = target.stage.anchor
        if command.arguments["then_anchor"]:
            strength = anchor.resolve(None)
            anchor.press(strength)
            anchor.sticky = strength
            return f"from now on held by an anchor of strength {strength:g}"
        if anchor.strength is not None:
            return f"still held by the anchor of strength {anchor.strength:g}"
        why = _why_no_anchor(target)
        return f"not anchored: {why}" if why else "not anchored, so training may lose it again"


def _why_no_anchor(target: OpTarget) -> str | None:
    """Return why the running stage can't be anchored; None if it can."""
    return target.stage.loop.refusal("anchor") or target.stage.anchor.why_not()


class _Edit(OpImplementation):
    def apply(self, target: OpTarget, command: Command) -> str:
        found = edit_model(
            _case(target, examples=0, every_row=False).case,
            command.op,
            command.arguments,
            new_floor=target.context.profile.recover.new_floor,
        )
        return _summary(found)


def register_recovery_ops() -> None:
    """Register the implementations of diagnose, recover and the edits."""
    register_implementation("diagnose", _Diagnose())
    register_implementation("recover", _Recover())
    for name in edit_names():
        register_implementation(name, _Edit())


def _room(target: OpTarget) -> AbstractContextManager[None]:
    """Return the context in which a test trains; another program's optimizer is left alone."""
    context, loop = target.context, target.stage.loop
    if not isinstance(loop, StageTuner):
        return nullcontext()
    folder = context.run.path / f".test.{os.getpid()}.writing"
    return room_for_test(context.prepared.layout, loop.optimizer, folder)


def _case(target: OpTarget, *, examples: int, every_row: bool) -> RunCase:
    context, point = target.context, target.stage.point()
    return live_case(
        point,
        context.prepared,
        context.resume_log.state,
        context.accuracy,
        context.shelf.start,
        CaseNeeds(examples, every_row),
        context.stop_if_asked,
    )


def _summary(found: RepairOutcome) -> str:
    """Return both tasks before and after; raise if the floor was broken, which changed nothing."""
    if found.floor_refusal is not None:
        more = found.suggested_examples
        examples = f"examples = {more} may keep it, " if more is not None else ""
        raise CommandFailedError(
            f"{found.floor_refusal.reason}; the weights are as before; {examples}a lower new_floor "
            "accepts it"
        )
    parts = [
        f"{name} {before:.2f} to {after:.2f}"
        for name, before, after in (
            ("old", found.old.before, found.old.after),
            ("new", found.new.before, found.new.after),
        )
        if before is not None and after is not None
    ]
    steps = (
        f" in {counted(found.steps, 'step')}, {found.seconds:.0f} s"
        if found.by == "neighbors"
        else ""
    )
    return ", ".join(parts) + steps
