"""The whole screen for one panel."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.screen import Screen

from sf_tui.tui.panels.danger_strip import DangerStrip
from sf_tui.tui.panels.footer import Footer
from sf_tui.tui.panels.header import Header
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.scene import Scene


class ZoomScreen(Screen[None]):
    """Header, danger strip, one panel, footer.

    Args:
        scene: the console's.
        panel: what sort of panel gets the room.
    """

    def __init__(self, scene: Scene, panel: type[Panel]) -> None:
        super().__init__(classes="-zoomed")
        self._scene = scene
        self._panel = panel

    def compose(self) -> ComposeResult:
        """Make the panels anew: their scene is the same."""
        yield Header(self._scene, id="header")
        yield DangerStrip(self._scene, id="danger")
        yield self._panel(self._scene, id="zoom-room")
        yield Footer(self._scene, id="footer")
