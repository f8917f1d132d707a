"""A diagnosis or a repair on a terminal: the conclusion, the next command, then the figures.

Shows a `diagnosis` event or a repair's outcome and draws no conclusions itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from sf_tui.cli.output import drawing_console
from sf_tui.vocabulary.declared import ArmRecord, CostEntry, DiagnosisCost
from sf_tui.vocabulary.events import DiagnosisMade
from sf_tui.vocabulary.measured import format_score
from sf_tui.vocabulary.sizes import counted
from sf_tui.vocabulary.verdicts import VERDICTS

if TYPE_CHECKING:
    from sf_tui.recovery.outcome import Accuracies, RepairOutcome

_COLORS = {
    "ok": "color(37)",
    "task-1": "color(75)",
    "warn": "color(214)",
    "danger": "color(202)",
    "strong": "color(214)",
}
"""Colors of the verdicts' roles, from the 256-color palette."""

_BAR = 30
_ANSWER_CELLS = 44


def print_diagnosis(event: DiagnosisMade, more: Mapping[str, Any]) -> None:
    """Print a diagnosis to stdout.

    Args:
        event: the diagnosis.
        more: `run` or `model`, and `notes`, `start_weights` and `gpu_hour` if known; `given` holds
            the options that named a model's data.
    """
    console = drawing_console()
    console.print(_headline(event, more))
    console.print(Text(_meaning(event)))
    # Not wrapped, so that the command can be copied whole.
    console.print(Text(f"Next: {next_step(event, more)}", style="bold"), soft_wrap=True)
    parts: list[RenderableType] = [
        "",
        _accuracies(event),
        *_answers(event),
        "",
        _arms(event),
        *_skipped(event),
        *_choice(event),
        "",
        _cost(event),
        *_cost_notes(event, more),
        "",
        *(Text(sentence, style="dim") for sentence in event.evidence),
    ]
    for part in parts:
        console.print(part)


def next_step(event: DiagnosisMade, more: Mapping[str, Any]) -> str:
    """Return the next command for a verdict, as a sentence."""
    neighbors = (event.arms or {}).get("neighbors")
    # Without start weights the arm is skipped.
    has_start = bool(more.get("start_weights")) or (neighbors is not None and not neighbors.skipped)
    text = VERDICTS[event.verdict].advice(
        has_start=has_start,
        knows_accuracy=event.start is not None,
        recover=_recover_command(more),
        learned=event.new_learned is not False,
        rounds_ended=event.rounds_ended,
    )
    rate = more.get("learning_rate")
    if event.new_learned is False and rate is not None:
        text = text.replace("[train] learning_rate", f"[train] learning_rate (it is {rate:g})")
    return text


def _meaning(event: DiagnosisMade) -> str:
    """Return the verdict in one sentence, or the bound that stands in for it."""
    if event.verdict == "none" and event.new_learned is False:
        return "No loss is seen, but the new task was not learned: nothing was tested."
    share = event.spurious_share
    if event.verdict in {"inconclusive", "partial"} and share is not None and event.evidence:
        return event.evidence[0]
    return VERDICTS[event.verdict].meaning


def _recover_command(more: Mapping[str, Any]) -> str:
    """Return the command that repairs the target; for a bare model it repeats the data options."""
    named = [part for option, value in more.get("given", {}).items() for part in (option, value)]
    words = ["sf", "recover", str(more.get("run") or more.get("model")), *named, "--out", "DIR"]
    return shlex.join(words)


def _headline(event: DiagnosisMade, more: Mapping[str, Any]) -> Text:
    verdict = event.verdict
    line = Text()
    line.append(f" {verdict.upper()} ", style=f"bold reverse {_color(verdict)}")
    line.append(f"  old task '{event.task}'", style="bold")
    where = str(more.get("run") or more.get("model"))
    if event.stage:
        where += f", stage {event.stage} step {event.step}"
    line.append(f"  {where}", style="dim")
    return line


def _accuracies(event: DiagnosisMade) -> Table:
    table = Table.grid(padding=(0, 2))
    rows = (
        ("start", event.start, None, "color(75)"),
        ("now", event.now, event.now_interval, _color(event.verdict)),
        ("recovered", event.recovered, event.recovered_interval, "color(37)"),
    )
    for name, value, interval, color in rows:
        figure = "unknown" if value is None and name == "start" else _figure(value)
        table.add_row(name, _bar(value, color), figure, Text(_interval(interval), style="dim"))
    share = event.spurious_share
    if share is not None:
        table.add_row(
            "came back", "of what was lost", _figure(share), Text(_interval(event.interval))
        )
    if event.knowledge_loss is not None:
        table.add_row("lost", "of alignment", _figure(event.alignment_loss))
        table.add_row("", "of knowledge", _figure(event.knowledge_loss))
    return table


def _answers(event: DiagnosisMade) -> list[RenderableType]:
    """Return some lost questions with the wanted answer and the one that is given now."""
    if not event.answers:
        return []
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("lost question", "wanted", "answered now"):
        table.add_column(name, overflow="ellipsis", max_width=_ANSWER_CELLS, no_wrap=True)
    for one in event.answers:
        cells = (one.question, one.wanted, one.answered)
        table.add_row(*(Text(" ".join(text.split())) for text in cells))
    return ["", table]


def _color(verdict: str) -> str:
    return _COLORS[VERDICTS[verdict].color_role]


def _bar(value: float | None, color: str) -> Text:
    filled = round(_BAR * min(max(value or 0.0, 0.0), 1.0))
    line = Text("█" * filled, style=color)
    line.append("·" * (_BAR - filled), style="dim")
    return line


def _arms(event: DiagnosisMade) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("arm")
    for name in ("recovered", "control", "floor", "best step", "time", "tokens", "rate"):
        table.add_column(name, justify="right")
    for name, arm in _arms_of(event):
        if arm.skipped:
            continue
        marked = Text(f"▸ {name}" if name == event.arm else f"  {name}")
        if not arm.allowed:
            marked.append(" (teaches)", style="dim")
        table.add_row(
            marked,
            _figure(arm.recovered),
            _figure(arm.control),
            _figure(arm.floor),
            _steps(arm),
            _seconds(arm.seconds),
            _tokens(arm.tokens),
            f"{arm.learning_rate:.1e}" if arm.learning_rate else "–",
        )
    return table


def _steps(arm: ArmRecord) -> str:
    """Return an arm's best step and, if it went on, how many it took."""
    if arm.steps_taken is None or arm.steps_taken == arm.steps:
        return str(arm.steps)
    return f"{arm.steps} of {arm.steps_taken}"


def _choice(event: DiagnosisMade) -> list[Text]:
    """Return why the arm that decides may not be the one with the best score."""
    if event.arm is None:
        return []
    text = (
        f"  ▸ decides: chosen on other held-out rows than those scored here, so that '{event.arm}' "
        "is not favored"
    )
    return [Text(text, style="dim")]


def _skipped(event: DiagnosisMade) -> list[Text]:
    return [
        Text(f"  {name} was not run: {arm.skipped}", style="dim")
        for name, arm in _arms_of(event)
        if arm.skipped
    ]


def _arms_of(event: DiagnosisMade) -> list[tuple[str, ArmRecord]]:
    return list((event.arms or {}).items())


def _cost(event: DiagnosisMade) -> Table:
    cost = event.cost or DiagnosisCost()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("cost", no_wrap=True)
    rows = (
        ("this test", CostEntry(cost.tokens, cost.seconds, cost.money)),
        ("the old task again", cost.old_task),
        ("the whole recipe", cost.recipe),
    )
    # Without a price of a GPU hour nothing has one.
    priced = any(entry is not None and entry.money is not None for _, entry in rows)
    for name in ("tokens trained", "time", *["money"] * priced, "this test's share"):
        table.add_column(name, justify="right")
    for name, entry in rows:
        if entry is None:
            table.add_row(name, "unknown")
            continue
        money = "–" if entry.money is None else f"{entry.money:.4f}"
        table.add_row(
            name,
            _tokens(entry.tokens),
            _seconds(entry.seconds),
            *[money] * priced,
            "" if entry.share is None else f"{100 * entry.share:.1f} %",
        )
    return table


def _cost_notes(event: DiagnosisMade, more: Mapping[str, Any]) -> list[Text]:
    notes = []
    if event.forwarded_tokens:
        notes.append(f"{event.forwarded_tokens:,} tokens more were only read by the test")
    if more.get("gpu_hour") is not None:
        notes.append(f"money at {more['gpu_hour']:g} an hour")
    return [Text("; ".join(notes), style="dim")] if notes else []


def _tokens(count: float | None) -> str:
    return "–" if count is None else f"{count:,}"


def print_repair(outcome: RepairOutcome, name: str, out: Path | None) -> None:
    """Print what a repair did to a model and where the result is.

    Args:
        outcome: the repair's outcome.
        name: the repaired run or model.
        out: the directory that was written; None for none.
    """
    console = drawing_console()
    console.print(Text(f"{name}, repaired by {outcome.by}", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("task")
    for column in ("start", "before", "after"):
        table.add_column(column, justify="right")
    table.add_row("old", _figure(outcome.start), *_scores(outcome.old))
    table.add_row("new", "", *_scores(outcome.new))
    if outcome.fitted.before is not None:
        table.add_row(Text("new, trained rows", style="dim"), "", *_scores(outcome.fitted))
    if outcome.agreement.before is not None:
        table.add_row(Text("neighbor prompts", style="dim"), "", *_scores(outcome.agreement))
    console.print(table)
    if outcome.agreement.before is not None:
        console.print("neighbor prompts: answered as by the start model", style="dim")
    for line in (_effort(outcome), _rate(outcome)):
        if line:
            console.print(line, soft_wrap=True, markup=False)
    console.print(outcome.summary, style="bold", soft_wrap=True, markup=False)
    written = f"model {out}" if out is not None else "no model was written"
    console.print(written, soft_wrap=True, markup=False)


def _scores(task: Accuracies) -> tuple[str, str]:
    """Return a task's scores before and after, with n and interval."""
    return (
        format_score(task.before_score, counts=True),
        format_score(task.after_score, counts=True),
    )


def _effort(outcome: RepairOutcome) -> str:
    parts = [f"{outcome.seconds:.1f} s"]
    if outcome.tokens:
        parts.append(f"{outcome.tokens:,} tokens")
        parts.append(f"the weights of step {outcome.steps}")
        parts.append(counted(outcome.examples or "no", "old example"))
    if outcome.keep is not None and outcome.keep < 1:
        parts.append(f"{outcome.keep:g} of the change since the start kept at first")
    if outcome.held:
        parts.append(f"own answers held on {counted(outcome.held, 'prompt')} beyond the new rows")
    if outcome.stepped_back is not None:
        parts.append(f"{outcome.stepped_back:.2g} of the repair kept, for the new task's sake")
    return " · ".join(parts)


def _rate(outcome: RepairOutcome) -> str:
    if not outcome.learning_rate:
        return ""
    return f"learning rate {outcome.learning_rate:.1e} ({outcome.rate_source})"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(interval: Any) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
