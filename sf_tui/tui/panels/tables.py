"""The tables at the side: weight drift by layer, and the load of the machine.

Knows the newest drift measurement and the machine's sample; measures nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sf_tui.tui.lines import Line, Piece, as_many_as_fit, bar_of, join, line_width
from sf_tui.tui.numbers import format_value
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.declared import LayerDrift

_MOST_BARS = 48
_WITH_HISTORY = 100
"""Cells from which each layer's drift over time fits beside its bar."""


class Drift(Panel):
    """One row per layer: a bar, the relative update, a frozen mark."""

    TITLE: ClassVar[str] = "weight drift"
    HELP: ClassVar[str] = (
        "How far each layer has moved from its weights at the stage's start, relative to their "
        "size. Zoomed, the bars at the right show how it came to that over the stage's steps."
    )
    SIGNS: ClassVar[Sequence[tuple[str, str]]] = (
        ("‖W−W₀‖/‖W₀‖", "size of the change over the size at the stage's start"),
        ("frozen", "this layer does not change"),
    )
    can_focus = True

    def title_right(self) -> Sequence[Piece]:
        """Return the counts of frozen and shown layers, and whether steps are anchored."""
        layers = layers_shown(self.view)
        frozen = sum(layer.frozen for layer in layers)
        room = max(self.size.height - 1, 1)
        parts: list[Line] = []
        if len(layers) > room:
            parts.append([(f"{room} of {len(layers)} layers, z: all", "muted")])
        elif layers:
            parts.append([("‖W−W₀‖/‖W₀‖" if self.view.glyphs.braille else "relative", "muted")])
        held: list[Line] = [[(f"{frozen} frozen", "ok")]] if frozen else []
        held += [[("anchored", "ok")]] if self.view.anchor is not None else []
        # All parts together do not fit.
        return join(held if len(held) > 1 else parts + held)

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the layers in model order, or a line that explains why there are none."""
        layers = layers_shown(self.view)
        if not layers:
            return [[("  measured at the first probe", "muted")]]
        if len(layers) > height and width >= 100:
            return self._in_columns(layers, width, height)
        shown = _spread_evenly(layers, height)
        if width < _WITH_HISTORY:
            return [self._row(layer, layers, width) for layer in shown]
        # Zoomed, with room to spare.
        each = width // 2
        most = max((_moved(layer) for layer in layers), default=0.0)
        rows: list[Line] = []
        for layer in shown:
            history = _history(self.view, layer.name, width - each - 2)
            text = "".join(_bar(value, most, self.view.glyphs.bars) for value in history)
            rows.append([*self._row(layer, layers, each), ("  ", "text"), (text, "muted")])
        stage = self.view.live.stage
        steps = f"steps 0 to {stage.step} of {stage.name}" if stage is not None else ""
        return [*rows, [(" " * (each + 2), "text"), (steps, "faint")]][:height]

    def _in_columns(self, layers: Sequence[LayerDrift], width: int, height: int) -> list[Line]:
        columns = min(-(-len(layers) // height), max(width // 40, 1))
        shown = _spread_evenly(layers, columns * height)
        each = width // columns
        rows: list[Line] = []
        for row in range(min(height, len(shown))):
            line: Line = []
            for layer in shown[row::height]:
                line += [*self._row(layer, layers, each - 2), ("  ", "text")]
            rows.append(line)
        return rows

    def _row(self, layer: LayerDrift, layers: Sequence[LayerDrift], width: int) -> Line:
        glyphs = self.view.glyphs
        name_width = min(max(len(other.name) for other in layers), 14)
        most = max((_moved(other) for other in layers), default=0.0)
        bar_width = max(width - name_width - 18, 4)
        filled = round(bar_width * _moved(layer) / most) if most > 0 else 0
        role = "ok" if layer.frozen else "text"
        return [
            (f" {layer.name[:name_width]:<{name_width}} ", "ok" if layer.frozen else "muted"),
            (glyphs.filled * filled, role),
            (" " * (bar_width - filled), "text"),
            (f" {format_value(_moved(layer)):>7}", "text"),
            (" frozen" if layer.frozen else "       ", "ok"),
        ]


class DriftLine(Panel):
    """Drift, frozen layers and the anchor in one line, for small screens."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the line."""
        del height
        layers = layers_shown(self.view)
        label = ("drift ", "title")
        if not layers:
            return [[label, ("measured at the first probe", "muted")]]
        frozen = [layer.name for layer in layers if layer.frozen]
        parts: list[Line] = [
            [label, *self._bars(layers)],
            [("most ", "muted"), (_most(layers), "text")],
            [(f"frozen {spell_layers(frozen)}", "ok") if frozen else ("none frozen", "muted")],
        ]
        if self.view.anchor is not None:
            parts.append([(f"anchored, strength {self.view.anchor_strength:g}", "ok")])
        if line_width(join(parts, "   ")) > width:
            # The protections matter more than the layer that moved most.
            del parts[1]
        return [as_many_as_fit(parts, width, "   ")]

    def _bars(self, layers: Sequence[LayerDrift]) -> Line:
        heights = self.view.glyphs.bars
        most = max(_moved(layer) for layer in layers)
        line: Line = []
        for layer in layers[:_MOST_BARS]:
            sign = _bar(_moved(layer), most, heights)
            line.append((sign, "ok" if layer.frozen else "text"))
        return line


def layers_shown(view: ViewState) -> Sequence[LayerDrift]:
    """Return the layers' drift at the cursor, or the newest."""
    stage = view.live.stage
    return stage.drift.layers if stage is not None and stage.drift is not None else ()


def _history(view: ViewState, layer: str, cells: int) -> list[float]:
    """Return a layer's drift at evenly spaced steps from the stage's start to the viewed step."""
    stage = view.stage
    if stage is None or cells < 1:
        return []
    count = min(cells, view.step + 1)
    found = []
    for index in range(count):
        step = round(view.step * index / max(count - 1, 1))
        found += [_moved(each) for each in stage.drift.at(step) if each.name == layer] or [0.0]
    return found


def _bar(value: float, most: float, heights: str) -> str:
    return bar_of(value / most if most > 0 else 0.0, heights)


def _spread_evenly(layers: Sequence[LayerDrift], count: int) -> list[LayerDrift]:
    """Return at most `count` layers: the first, the last, and evenly spaced ones between."""
    if len(layers) <= count:
        return list(layers)
    if count <= 1:
        return list(layers[:count])
    return [layers[round(index * (len(layers) - 1) / (count - 1))] for index in range(count)]


def _most(layers: Sequence[LayerDrift]) -> str:
    layer = max(layers, key=lambda layer: _moved(layer))
    return f"{format_value(_moved(layer))} {layer.name}"


def spell_layers(names: list[str]) -> str:
    """Return the layers' names with consecutive blocks joined: `embeddings, block-0..3`."""
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


def _moved(layer: LayerDrift) -> float:
    """Return a layer's drift; 0 where the log has none."""
    return layer.relative_update or 0.0
