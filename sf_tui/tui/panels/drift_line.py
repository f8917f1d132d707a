"""The drift line: every layer's drift as one bar of a cell, for small screens."""

from __future__ import annotations

from sf_tui.tui.curves import LayerDrift
from sf_tui.tui.lines import Line, as_many_as_fit, join, line_width
from sf_tui.tui.numbers import format_value
from sf_tui.tui.panels.drift import layers_shown
from sf_tui.tui.panels.panel import Panel

_MOST_BARS = 48


class DriftLine(Panel):
    """Drift, frozen layers and the anchor in one line."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the line."""
        del height
        layers = layers_shown(self.scene)
        label = ("drift ", "title")
        if not layers:
            return [[label, ("measured at the first probe", "muted")]]
        frozen = [layer.name for layer in layers if layer.frozen]
        parts: list[Line] = [
            [label, *self._bars(layers)],
            [("most ", "muted"), (_most(layers), "text")],
            [(f"frozen {spell_layers(frozen)}", "ok") if frozen else ("none frozen", "muted")],
        ]
        if self.scene.anchor is not None:
            parts.append([(f"anchored, strength {self.scene.anchor_strength:g}", "ok")])
        if line_width(join(parts, "   ")) > width:
            # What holds the layers counts for more than which of them moved most.
            del parts[1]
        return [as_many_as_fit(parts, width, "   ")]

    def _bars(self, layers: tuple[LayerDrift, ...]) -> Line:
        heights = self.scene.glyphs.bars
        most = max(layer.relative_update for layer in layers)
        line: Line = []
        for layer in layers[:_MOST_BARS]:
            share = layer.relative_update / most if most > 0 else 0.0
            sign = heights[min(int(share * len(heights)), len(heights) - 1)]
            line.append((sign, "ok" if layer.frozen else "text"))
        return line


def _most(layers: tuple[LayerDrift, ...]) -> str:
    layer = max(layers, key=lambda layer: layer.relative_update)
    return f"{format_value(layer.relative_update)} {layer.name}"


def spell_layers(names: list[str]) -> str:
    """Return layers' names with runs of blocks joined: `embeddings, block-0..3`."""
    spelled: list[str] = []
    first = last = -2
    for name in names:
        head, _, number = name.rpartition("-")
        if not head or not number.isdigit():
            spelled.append(name)
            first = last = -2
        elif int(number) == last + 1:
            last = int(number)
            spelled[-1] = f"{head}-{first}..{last}"
        else:
            first = last = int(number)
            spelled.append(name)
    return ", ".join(spelled)
