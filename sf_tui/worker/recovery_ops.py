"""Recovery test, repair and edits of the model that a stage trains, between two steps.

A test restores the weights bit for bit. Repair and edits change them in place. Both follow from the
weights, the profile and the seed alone, so that a resumed worker repeats them to the same result.
"""

from __future__ import annotations

from sf_tui.cases.assemble import RunCase, live_case
from sf_tui.cases.operations import diagnose, repair
from sf_tui.cases.rows import CaseNeeds
from sf_tui.recovery.repair import RepairOutcome, edit_model
from sf_tui.run.events import read_events
from sf_tui.run.state import fold
from sf_tui.vocabulary.commands import Command
from sf_tui.vocabulary.ops import edit_names
from sf_tui.worker.ops import OpImplementation, OpTarget, register_implementation


class _Diagnose(OpImplementation):
    def apply(self, target: OpTarget, command: Command) -> str:
        """Run the recovery test, log its event, and return the verdict in words."""
        context, arguments = target.context, command.arguments
        found = diagnose(
            _case(target, examples=arguments["examples"], every_row=arguments["thorough"]),
            examples=arguments["examples"],
            thorough=arguments["thorough"],
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
            # Frozen weights stay as they are, bit for bit.
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
        fold(read_events(context.run.events)),
        context.accuracy,
        context.shelf.path(point.spec.name, 0),
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
