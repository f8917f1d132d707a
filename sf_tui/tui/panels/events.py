"""The events: what happened, newest at the foot, narrowed by a filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sf_tui.tui.lines import Line, Piece
from sf_tui.tui.notable import Kind, Notable
from sf_tui.tui.numbers import format_clock, format_duration
from sf_tui.tui.panels.panel import Panel

_ROLES = {
    Kind.CHECKPOINT: "muted",
    Kind.ACTION: "ok",
    Kind.RULE: "ok",
    Kind.VERDICT: "strong",
}


class Events(Panel):
    """One row for each thing that happened."""

    TITLE: ClassVar[str] = "events"
    can_focus = True

    def title_right(self) -> Sequence[Piece]:
        """Return the filter."""
        text = self.scene.event_filter
        return ((f"filter: {text}", "strong"), (" (/)", "muted")) if text else ()

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the newest rows, or why there are none."""
        del width
        scene = self.scene
        wanted = scene.event_filter.lower()
        rows = [
            row
            for row in scene.record.notables.rows
            if not wanted or wanted in f"{row.kind} {row.text} {row.stage}".lower()
        ]
        if not rows:
            reason = f"none contains '{scene.event_filter}'" if wanted else "nothing yet"
            return [[(f"  {reason}", "muted")]]
        shown = rows[-height:]
        place_width = min(max((len(_place(row)) for row in shown), default=0), 16)
        return [self._row(row, place_width) for row in shown]

    def _row(self, row: Notable, place_width: int) -> Line:
        role = {"warn": "warn", "error": "error"}.get(row.level, _ROLES.get(row.kind, "text"))
        loud = row.level in {"warn", "error"}
        line = [
            (f" {format_clock(row.time, self.scene.zone)} ", "muted"),
            (f"{_place(row)[:place_width]:<{place_width}} ", "muted"),
            ("! " if loud else "  ", role),
            (self.scene.glyphs.spell(row.text), role),
        ]
        work = self.scene.work
        if work is not None and row is self.scene.record.notables.worked_on():
            line.append((f" {self.scene.glyphs.ellipsis} {format_duration(int(work[1]))}", role))
        return line


def _place(row: Notable) -> str:
    return f"{row.stage}@{row.step}" if row.stage and row.step is not None else ""
