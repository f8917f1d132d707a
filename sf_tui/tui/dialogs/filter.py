"""Takes the text that events must contain."""

from __future__ import annotations

from collections.abc import Callable

from sf_tui.tui.activity import Kind
from sf_tui.tui.dialogs.dialog import Dialog, keys_line
from sf_tui.tui.lines import Line
from sf_tui.tui.view_state import ViewState


class FilterDialog(Dialog[str]):
    """Gives back the text; an empty one shows all events again."""

    TAKES_TEXT = True

    def __init__(self, view: ViewState, steady_clock: Callable[[], float]) -> None:
        super().__init__(view, steady_clock)
        self.typed = view.event_filter

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the line to type into and what can be typed."""
        del width, height
        matching = sum(
            self.typed.lower() in f"{row.kind} {row.text} {row.stage}".lower()
            for row in self.view.live.activity.rows
        )
        return [
            self.typing_line("show events that contain: "),
            [(f"{matching} of {len(self.view.live.activity.rows)}", "text")],
            [],
            [("kinds: ", "muted"), (" ".join(kind.value for kind in Kind), "muted")],
            keys_line(("enter", "show"), ("ctrl+u", "clear"), ("esc", "as before")),
        ]

    def answer(self) -> None:
        """Filter by what was typed."""
        self.dismiss(self.typed.strip())
