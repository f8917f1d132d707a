"""The verdict line: the newest diagnosis in one line, for small screens."""

from __future__ import annotations

from sf_tui.tui.lines import Line, as_many_as_fit
from sf_tui.tui.numbers import format_share
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.verdict import place_of, share_with_interval, verdict_words


class VerdictLine(Panel):
    """Verdict, what it rests on, and where it was made."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the line; empty before there is a diagnosis."""
        del height
        diagnosis = self.scene.record.history.diagnosis
        if diagnosis is None:
            return []
        now, recovered, start = (
            format_share(diagnosis.get(name)) for name in ("now", "recovered", "start")
        )
        arm = diagnosis.get("arm")
        parts: list[Line] = [
            [("verdict ", "title"), *verdict_words(self.scene)],
            [
                (now, "task-0"),
                (f" {self.scene.glyphs.arrow} ", "muted"),
                (recovered, "task-1"),
                (f" of {start}", "muted"),
            ],
            share_with_interval(diagnosis, "share"),
            place_of(self.scene),
            [("by ", "muted"), (str(arm), "text")] if arm else [],
        ]
        return [as_many_as_fit(parts, width, "  ")]
