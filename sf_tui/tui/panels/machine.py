"""The machine panel: devices, CPU, memory, the disk, and what the stage has trained on so far.

Knows the newest sample; measures nothing.
"""

from __future__ import annotations

from typing import ClassVar

from sf_tui.run.devices import DeviceReading
from sf_tui.tui.lines import Line
from sf_tui.tui.numbers import format_count
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.ranks import rank_lines
from sf_tui.tui.rank_rows import rank_rows
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.sizes import counted, format_bytes

_NAME_CELLS = 8
_TEXT_CELLS = {False: 20, True: 32}
_WIDE = 52
_FEW_RANKS = 4
"""Ranks that the panel shows at least."""
_MANY_RANKS = 8
"""Ranks that it shows at the side of a screen from `_MANY_FROM` rows."""
_MANY_FROM = 50
_ROWS_ALONE = 3
"""Title, CPU and memory."""
_ALL_FROM = 38
"""Rows of the terminal from which the panel has the rows about disk and data."""


def machine_rows(view: ViewState, height: int) -> int:
    """Return the panel's height with its title.

    Args:
        view: what is shown.
        height: of the terminal.
    """
    sample = view.machine
    if sample is None:
        return 2
    most = _MANY_RANKS if height >= _MANY_FROM else _FEW_RANKS
    rows = len(_load(view, 44, most)) + (len(_facts(view)) if height >= _ALL_FROM else 0)
    return 1 + max(rows, 1)


def rows_of_ranks(view: ViewState, height: int) -> int:
    """Return by how much several ranks make the panel higher than one process does.

    Args:
        view: what is shown.
        height: of the terminal.
    """
    if view.machine is None or not view.machine.ranks:
        return 0
    return machine_rows(view, height) - (_ROWS_ALONE + (3 if height >= _ALL_FROM else 0))


class MachinePanel(Panel):
    """Devices or the worker's CPU, memory, disk, and the rows and tokens seen."""

    TITLE: ClassVar[str] = "machine"
    HELP: ClassVar[str] = "Load and memory of the worker's machine, and the disk of the run."
    can_focus = True
    IS_CHART: ClassVar[bool] = True

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the rows, the live ones first."""
        if self.view.machine is None:
            return [[("  not looked at yet", "muted")]]
        facts = _facts(self.view)
        most = min(len(self.view.machine.ranks), height)
        load = _load(self.view, width, most)
        while len(load) + len(facts) > height and most > _FEW_RANKS:
            most -= 1
            load = _load(self.view, width, most)
        return [*load, *facts][:height]


def _load(view: ViewState, width: int, most: int) -> list[Line]:
    """Return the rows of what is in use now, of `most` ranks; after the run's end when that was."""
    sample = view.machine
    assert sample is not None
    lines: list[Line] = []
    if sample.ranks:
        lines = rank_lines(rank_rows(sample.ranks, sample.devices), width, most)
        live = view.liveness.has_worker and view.newest.finished is None
        return lines if live else [*lines, [(f"  {sample.problem}", "muted")]]
    for device in sample.devices:
        lines += _device_rows(view, device, width)
    if sample.problem:
        return [*lines, [(f"  {sample.problem}", "muted")]]
    if not sample.devices:
        cores = sample.cores or 1
        used = (sample.cpu_percent or 0.0) / 100
        lines.append(_bar(view, "cpu", used / cores, f"{used:.1f} of {cores} cores", width))
    if sample.rss_bytes is not None and sample.memory_total_bytes:
        text = f"{format_bytes(sample.rss_bytes)} of {format_bytes(sample.memory_total_bytes)}"
        share = sample.rss_bytes / sample.memory_total_bytes
        lines.append(_bar(view, "memory", share, text, width))
    return lines


def _device_rows(view: ViewState, device: DeviceReading, width: int) -> list[Line]:
    name = f"{device.index}"
    busy = "" if device.utilization is None else f"{device.utilization:.0%} "
    title = f"{busy}{device.name}"
    lines = [
        _bar(view, f"gpu {name}", device.utilization, title, width)
        if device.utilization is not None
        else _row(f"gpu {name}", title)
    ]
    used, total = device.used_bytes, device.total_bytes
    if used is not None and total:
        text = f"{format_bytes(used)} of {format_bytes(total)}, {format_bytes(total - used)} free"
        lines.append(_bar(view, "", used / total, text, width))
    facts = []
    if device.temperature_c is not None:
        facts.append(f"{device.temperature_c:.0f} °C")
    if device.power_w is not None:
        limit = "" if device.power_limit_w is None else f" of {device.power_limit_w:.0f}"
        facts.append(f"{device.power_w:.0f}{limit} W")
    if device.peak_bytes:
        facts.append(f"peak {format_bytes(device.peak_bytes)}")
    if facts:
        lines.append(_row("", "   ".join(facts)))
    return lines


def _facts(view: ViewState) -> list[Line]:
    """Return the rows that stay true when the run is over: disk, and data seen."""
    sample = view.machine
    assert sample is not None
    lines: list[Line] = []
    if sample.run_bytes is not None:
        free = format_bytes(sample.disk_free_bytes)
        lines.append(_row("disk", f"{format_bytes(sample.run_bytes)} this run, {free} free"))
    stage = view.stage.state if view.stage is not None else None
    if stage is not None and stage.rows and stage.rows_per_step:
        seen = view.step * stage.rows_per_step
        epochs = seen / stage.rows
        times = f"{epochs:.0f}" if epochs >= 10 else f"{epochs:.1f}"
        tokens = format_count(round(seen * stage.tokens_per_row))
        lines.append(_row("epochs", f"{times} of {counted(f'{stage.rows:,}', 'row')}"))
        lines.append(_row("seen", f"{counted(f'{seen:,}', 'example')}, about {tokens} tokens"))
    return lines


def _row(name: str, text: str) -> Line:
    return [(f" {name:<{_NAME_CELLS - 2}} ", "muted"), (text, "text")]


def _bar(view: ViewState, name: str, share: float | None, text: str, width: int) -> Line:
    glyphs = view.glyphs
    text_width = max(_TEXT_CELLS[width >= _WIDE], len(text) if width >= 40 else 0)
    cells = max(width - text_width - 10, 4)
    filled = round(cells * min(max(share or 0.0, 0.0), 1.0))
    return [
        (f" {name:<{_NAME_CELLS - 2}} ", "muted"),
        (glyphs.filled * filled, "text"),
        (glyphs.empty * (cells - filled), "rule"),
        (f" {text}", "text"),
    ]
