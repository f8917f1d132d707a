"""A diagnosis on a terminal: the verdict first, what to do next, then what it was made of.

Shows the event and draws no conclusions of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from sf_tui.cli.output import drawing_console
from sf_tui.vocabulary.event_records import ArmResult, CostEntry, DiagnosisCost
from sf_tui.vocabulary.events import DiagnosisMade

_COLORS = {
    "none": "color(37)",
    "spurious": "color(75)",
    "partial": "color(214)",
    "real": "color(202)",
    "inconclusive": "color(214)",
}

_MEANS = {
    "none": "No loss is seen: the old task is as good as it was.",
    "spurious": "The old task is still known; what broke is how the model answers when asked.",
    "partial": "Part of the old task is still known, part of it is gone.",
    "real": "What was lost of the old task is gone from these weights.",
    "inconclusive": "The figures don't say whether the loss is one of knowledge.",
}

_BAR = 30


def print_card(event: DiagnosisMade, more: Mapping[str, Any]) -> None:
    """Print a diagnosis to stdout.

    Args:
        event: the diagnosis.
        more: `run` or `model`, and `notes`, `start_weights` and `gpu_hour` where they are known;
            `given` names the options that a model's data were named by.
    """
    console = drawing_console()
    console.print(_headline(event, more))
    console.print(Text(_MEANS[event.verdict]))
    # No line break of ours: who copies the command takes it whole.
    console.print(Text(f"Next: {next_step(event, more)}", style="bold"), soft_wrap=True)
    parts: list[RenderableType] = [
        "",
        _accuracies(event),
        "",
        _arms(event),
        *_skipped(event),
        "",
        _cost(event),
        *_cost_notes(event, more),
        "",
        *(Text(sentence, style="dim") for sentence in event.evidence),
    ]
    for part in parts:
        console.print(part)


def next_step(event: DiagnosisMade, more: Mapping[str, Any]) -> str:
    """Return what to do about a verdict, in one sentence."""
    neighbors = (event.arms or {}).get("neighbors")
    # The neighbors arm is skipped where there are no start weights.
    has_start = bool(more.get("start_weights")) or (neighbors is not None and not neighbors.skipped)
    verdict = event.verdict
    if verdict == "none":
        return "nothing; go on with the model as it is."
    if verdict == "inconclusive":
        if event.start is None:
            return (
                "name the weights from before (--start-model DIR) or the accuracy then "
                "(--start-accuracy); without either no loss can be measured."
            )
        return "score on more held-out examples of the old task, or test it with --thorough."
    command = _recover_command(more)
    if verdict == "real":
        if has_start:
            return (
                "go back to the weights from before, or tune the old task anew; "
                f"`{command}` can teach it again from those weights' answers."
            )
        return "go back to the weights from before, or tune the old task anew."
    how = "without any old example" if has_start else "with a few old examples"
    brings = "brings it back" if verdict == "spurious" else "brings back what is still known"
    return f"`{command}` {brings}, {how}."


def _recover_command(more: Mapping[str, Any]) -> str:
    """Return the command that repairs what was diagnosed; a bare model tells none of its data."""
    named = [part for option, value in more.get("given", {}).items() for part in (option, value)]
    words = ["sf", "recover", str(more.get("run") or more.get("model")), *named, "--out", "DIR"]
    return shlex.join(words)


def _headline(event: DiagnosisMade, more: Mapping[str, Any]) -> Text:
    verdict = event.verdict
    line = Text()
    line.append(f" {verdict.upper()} ", style=f"bold reverse {_COLORS[verdict]}")
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
        ("now", event.now, event.now_interval, _COLORS[event.verdict]),
        ("recovered", event.recovered, event.recovered_interval, "color(37)"),
    )
    for name, value, interval, color in rows:
        said = "unknown" if value is None and name == "start" else _figure(value)
        table.add_row(name, _bar(value, color), said, Text(_interval(interval), style="dim"))
    share = event.spurious_share
    if share is not None:
        table.add_row(
            "came back", "of what was lost", _figure(share), Text(_interval(event.interval))
        )
    if event.knowledge_loss is not None:
        table.add_row("lost", "of alignment", _figure(event.alignment_loss))
        table.add_row("", "of knowledge", _figure(event.knowledge_loss))
    return table


def _bar(value: float | None, color: str) -> Text:
    filled = round(_BAR * min(max(value or 0.0, 0.0), 1.0))
    line = Text("█" * filled, style=color)
    line.append("·" * (_BAR - filled), style="dim")
    return line


def _arms(event: DiagnosisMade) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("arm")
    for name in ("recovered", "control", "floor", "steps", "time", "tokens", "rate"):
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
            str(arm.steps),
            _seconds(arm.seconds),
            _tokens(arm.tokens),
            f"{arm.learning_rate:.1e}" if arm.learning_rate else "–",
        )
    return table


def _skipped(event: DiagnosisMade) -> list[Text]:
    return [
        Text(f"  {name} was not run: {arm.skipped}", style="dim")
        for name, arm in _arms_of(event)
        if arm.skipped
    ]


def _arms_of(event: DiagnosisMade) -> list[tuple[str, ArmResult]]:
    return list((event.arms or {}).items())


def _cost(event: DiagnosisMade) -> Table:
    cost = event.cost or DiagnosisCost()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("cost", no_wrap=True)
    for name in ("tokens trained", "time", "money", "of it, this test takes"):
        table.add_column(name, justify="right")
    rows = (
        ("this test", CostEntry(cost.tokens, cost.seconds, cost.money)),
        ("the old task again", cost.old_task),
        ("the whole recipe", cost.recipe),
    )
    for name, entry in rows:
        if entry is None:
            table.add_row(name, "unknown")
            continue
        table.add_row(
            name,
            _tokens(entry.tokens),
            _seconds(entry.seconds),
            "–" if entry.money is None else f"{entry.money:.4f}",
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
