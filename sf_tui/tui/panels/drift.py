"""The drift panel: how far each layer has moved since the stage began, and which are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sf_tui.tui.curves import LayerDrift
from sf_tui.tui.lines import Line, Piece, join
from sf_tui.tui.numbers import format_value
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.scene import Scene


class Drift(Panel):
    """One row a layer: a bar, the relative update, a frozen mark."""

    TITLE: ClassVar[str] = "weight drift"
    can_focus = True

    def title_right(self) -> Sequence[Piece]:
        """Return how many layers are frozen, how many don't fit, and whether steps are anchored."""
        layers = layers_shown(self.scene)
        frozen = sum(layer.frozen for layer in layers)
        room = max(self.size.height - 1, 1)
        parts: list[Line] = []
        if len(layers) > room:
            parts.append([(f"{room} of {len(layers)} layers, z: all", "muted")])
        elif layers:
            parts.append([("‖W−W₀‖/‖W₀‖" if self.scene.glyphs.braille else "relative", "muted")])
        held: list[Line] = [[(f"{frozen} frozen", "ok")]] if frozen else []
        held += [[("anchored", "ok")]] if self.scene.anchor is not None else []
        # There is no room for all of it.
        return join(held if len(held) > 1 else parts + held)

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the layers from the input down, or why there are none yet."""
        layers = layers_shown(self.scene)
        if not layers:
            return [[("  measured at the first probe", "muted")]]
        if len(layers) > height and width >= 100:
            return self._in_columns(layers, width, height)
        shown = _spread_evenly(layers, height)
        return [self._row(layer, layers, width) for layer in shown]

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
        glyphs = self.scene.glyphs
        name_width = min(max(len(other.name) for other in layers), 14)
        most = max((other.relative_update for other in layers), default=0.0)
        bar_width = max(width - name_width - 18, 4)
        filled = round(bar_width * layer.relative_update / most) if most > 0 else 0
        role = "ok" if layer.frozen else "text"
        return [
            (f" {layer.name[:name_width]:<{name_width}} ", "ok" if layer.frozen else "muted"),
            (glyphs.filled * filled, role),
            (" " * (bar_width - filled), "text"),
            (f" {format_value(layer.relative_update):>7}", "text"),
            (" frozen" if layer.frozen else "       ", "ok"),
        ]


def layers_shown(scene: Scene) -> tuple[LayerDrift, ...]:
    """Return the layers' drift where the scene looks."""
    stage, place = scene.stage, scene.place
    return stage.drift.at(None if place is None else place.step) if stage else ()


def _spread_evenly(layers: Sequence[LayerDrift], count: int) -> list[LayerDrift]:
    """Return at most `count` layers: the first, the last, and evenly between."""
    if len(layers) <= count:
        return list(layers)
    if count <= 1:
        return list(layers[:count])
    return [layers[round(index * (len(layers) - 1) / (count - 1))] for index in range(count)]
