"""The verdict: how much of the loss is broken alignment, and how much is knowledge that is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sf_tui.tui.lines import Line, Piece
from sf_tui.tui.numbers import format_share
from sf_tui.tui.panels.panel import Panel


class Verdict(Panel):
    """The alignment and knowledge bar; shown once there is a diagnosis."""

    TITLE: ClassVar[str] = "diagnosis"

    def title_right(self) -> Sequence[Piece]:
        """Return the verdict."""
        diagnosis = self.scene.record.diagnosis
        return ((str(diagnosis["verdict"]), "strong"),) if diagnosis else ()

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the bar and what its parts mean."""
        del height
        diagnosis = self.scene.record.diagnosis
        if diagnosis is None:
            return [[("  none was asked for", "muted")]]
        start = float(diagnosis.get("start") or 0.0)
        now = float(diagnosis.get("now") or 0.0)
        recovered = float(diagnosis.get("recovered") or 0.0)
        glyphs = self.scene.glyphs
        cells = max(width - 2, 1)
        kept = round(cells * min(now, 1.0))
        back = max(round(cells * min(recovered, 1.0)) - kept, 0)
        gone = max(round(cells * min(start, 1.0)) - kept - back, 0)
        interval = diagnosis.get("interval") or []
        between = f" ({' to '.join(format_share(end) for end in interval)})" if interval else ""
        return [
            [
                (" ", "text"),
                (glyphs.filled * kept, "task-0"),
                ((glyphs.filled if glyphs.braille else "+") * back, "task-1"),
                (glyphs.dotted * gone, "danger"),
            ],
            [
                (" now ", "muted"),
                (format_share(now), "task-0"),
                (" of ", "muted"),
                (format_share(start), "text"),
            ],
            [
                (" alignment lost ", "muted"),
                (format_share(diagnosis.get("alignment_loss")), "task-1"),
                ("  knowledge lost ", "muted"),
                (format_share(diagnosis.get("knowledge_loss")), "danger"),
            ],
            [(" recovered ", "muted"), (format_share(recovered), "text"), (between, "muted")],
        ]
