"""The machine: GPU load and memory, or the worker's CPU and memory."""

from __future__ import annotations

from typing import ClassVar

from sf_tui.tui.lines import Line
from sf_tui.tui.machine import GpuSample
from sf_tui.tui.numbers import format_bytes
from sf_tui.tui.panels.panel import Panel


class MachinePanel(Panel):
    """What the worker's machine is doing."""

    TITLE: ClassVar[str] = "machine"
    IS_CHART: ClassVar[bool] = True

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return two rows a GPU, or two for the processor."""
        sample = self.view.machine
        if sample is None:
            return [[("  not looked at yet", "muted")]]
        if sample.problem:
            return [[(f"  {sample.problem}", "muted")]]
        lines: list[Line] = []
        for index, gpu in enumerate(sample.gpus):
            lines += self._gpu_rows(index, gpu, width)
        if not sample.gpus:
            cores = sample.cores or 1
            used = (sample.cpu_percent or 0.0) / 100
            share = used / cores
            text = f"{used:.1f} of {cores} cores"
            lines.append(self._row("cpu", share, text, width))
        if sample.rss_bytes is not None and sample.memory_total_bytes:
            share = sample.rss_bytes / sample.memory_total_bytes
            text = f"{format_bytes(sample.rss_bytes)} of {format_bytes(sample.memory_total_bytes)}"
            lines.append(self._row("memory", share, text, width))
        return lines[:height]

    def _gpu_rows(self, index: int, gpu: GpuSample, width: int) -> list[Line]:
        used = gpu.used_bytes / max(gpu.total_bytes, 1)
        text = f"{format_bytes(gpu.used_bytes)} of {format_bytes(gpu.total_bytes)}"
        busy = "–" if gpu.utilization is None else f"{gpu.utilization:.0%}"
        return [
            self._row(f"gpu {index}", gpu.utilization or 0.0, f"{busy} {gpu.name}", width),
            self._row("", used, text, width),
        ]

    def _row(self, name: str, share: float, text: str, width: int) -> Line:
        glyphs = self.view.glyphs
        text_width = 20
        cells = max(width - text_width - 10, 4)
        filled = round(cells * min(max(share, 0.0), 1.0))
        return [
            (f" {name:<6} ", "muted"),
            (glyphs.filled * filled, "text"),
            (glyphs.empty * (cells - filled), "rule"),
            (f" {text[:text_width]}", "text"),
        ]
