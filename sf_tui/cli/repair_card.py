"""What a repair did, on a terminal: both tasks before and after, and whether it was worth it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sf_tui.cli.output import drawing_console

if TYPE_CHECKING:
    from sf_tui.recovery.outcome import RepairOutcome


def print_repair(outcome: RepairOutcome, name: str, out: Path) -> None:
    """Print what was done to a model and where the result lies.

    Args:
        outcome: of the repair.
        name: the run or model that was repaired.
        out: the directory that was written.
    """
    console = drawing_console()
    console.print(Text(f"{name}, repaired by {outcome.by}", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("task")
    for column in ("start", "before", "after"):
        table.add_column(column, justify="right")
    table.add_row(
        "old", _figure(outcome.start), _figure(outcome.old.before), _figure(outcome.old.after)
    )
    table.add_row("new", "", _figure(outcome.new.before), _figure(outcome.new.after))
    if outcome.agreement.before is not None:
        table.add_row(
            Text("as the start model answers neighbors", style="dim"),
            "1.000",
            _figure(outcome.agreement.before),
            _figure(outcome.agreement.after),
        )
    console.print(table)
    console.print(_how(outcome), soft_wrap=True, markup=False)
    console.print(what_came_of_it(outcome), style="bold", soft_wrap=True, markup=False)
    console.print(f"model {out}", soft_wrap=True, markup=False)


def what_came_of_it(outcome: RepairOutcome) -> str:
    """Return in one sentence whether the model is better now."""
    before, after = outcome.old.before, outcome.old.after
    what = "the old task"
    if before is None or after is None:
        before, after = outcome.agreement.before, outcome.agreement.after
        what = "the agreement with the start model"
    lost = (outcome.new.before or 0.0) - (outcome.new.after or 0.0)
    price = f", for {100 * lost:.1f} points of the new one" if round(lost, 3) > 0 else ""
    if before is None or after is None:
        return "Nothing says whether it is better: no row of the old task is at hand to score it."
    if after <= before:
        return f"It made nothing better: {what} is at {after:.3f}, as before or worse{price}."
    return f"It brought {what} from {before:.3f} to {after:.3f}{price}."


def _how(outcome: RepairOutcome) -> str:
    parts = [f"{outcome.seconds:.1f} s"]
    if outcome.tokens:
        parts.append(f"{outcome.tokens:,} tokens")
        parts.append(f"the weights of step {outcome.steps}")
        parts.append(
            f"{outcome.examples or 'no'} old example{'' if outcome.examples == 1 else 's'}"
        )
    if outcome.keep is not None and outcome.keep < 1:
        parts.append(f"{outcome.keep:g} of the change since the start kept at first")
    return " · ".join(parts)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
