"""Recovery test, repair and edits of the model that a stage has in hand, between two steps.

A test gives the model back bit for bit. Repair and edits change it in place; both follow from the
weights, the profile and the seed alone, so that a resumed worker does them again and gets the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sf_tui.cases.assemble import RunCase, StagePoint, live_case
from sf_tui.cases.operations import diagnose, repair
from sf_tui.cases.rows import CaseNeeds
from sf_tui.errors import RunError
from sf_tui.recovery.repair import RepairOutcome, edit_model
from sf_tui.run.events import read_events
from sf_tui.run.state import fold
from sf_tui.worker.context import RunContext


class Mending:
    """What can be done to find out about a loss, or to undo it, in one stage."""

    def __init__(self, context: RunContext, point: Callable[[], StagePoint]) -> None:
        self._context = context
        self._point = point

    def resolve(self, op: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return an op's arguments, those that aren't given being the profile's."""
        profile = self._context.profile
        tables: dict[str, Any] = {"diagnose": profile.diagnose, "recover": profile.recover}
        table = tables.get(op)
        return {
            name: getattr(table, name) if value is None and table is not None else value
            for name, value in arguments.items()
        }

    def check(self) -> None:
        """Raise the reason for which there is nothing to test or to mend.

        Raises:
            RunError: no watched task was learnt before this stage.
        """
        if not self._point().watches_old:
            raise RunError("no watched task was learnt before this stage: there is none to lose")

    def diagnose(self, arguments: dict[str, Any]) -> str:
        """Run the recovery test, write its event, and return the verdict in words."""
        context = self._context
        found = diagnose(
            self._case(examples=arguments["examples"], every_row=arguments["thorough"]),
            examples=arguments["examples"],
            thorough=arguments["thorough"],
            log=self._between,
            on_step=self._between,
        )
        context.log_event(found.event)
        finding = found.outcome.finding
        return f"{finding.name}: {finding.evidence[0]}"

    def mend(self, op: str, arguments: dict[str, Any]) -> str:
        """Repair or edit the weights in place; return what came of it."""
        if op == "recover":
            held = bool(self._context.prepared.freezer.frozen)
            found = repair(
                self._case(examples=arguments["examples"], every_row=False),
                examples=arguments["examples"],
                steps=arguments["steps"],
                strength=arguments["strength"],
                # What is frozen stays bit for bit what it is.
                keep=1.0 if held else None,
                log=self._between,
                on_step=self._between,
                thaw=not held,
            )
        else:
            found = edit_model(self._case(examples=0, every_row=False).case, op, arguments)
        return _told(found)

    def _case(self, *, examples: int, every_row: bool) -> RunCase:
        context, point = self._context, self._point()
        return live_case(
            point,
            context.prepared,
            fold(read_events(context.run.events)),
            context.accuracy,
            context.shelf.path(point.spec.name, 0),
            CaseNeeds(examples, every_row),
            context.stop_if_asked,
        )

    def _between(self, _: object) -> None:
        """Look whether the run is to stop: a test may take longer than a scheduler waits."""
        self._context.stop_if_asked()


def _told(found: RepairOutcome) -> str:
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
