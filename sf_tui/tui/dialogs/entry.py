"""The dialog that shows a row of the events in full: every answer of a command, every field.

Returns the entry to whose step the charts go; changes nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sf_tui.tui.activity import CommandRow, Entry
from sf_tui.tui.dialogs.dialog import Dialog, keys_lines
from sf_tui.tui.event_rows import EventRow
from sf_tui.tui.lines import Line, wrap_cells
from sf_tui.tui.numbers import format_clock, format_value
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.events import Event, event_object

_HEADED = frozenset({"seq", "time", "type", "stage", "step"})
"""Fields that the dialog's first line gives."""
_INDENT = 2


class EntryDialog(Dialog[Entry]):
    """Shows one row at a time; left and right go to its neighbors.

    Args:
        view: the console's.
        steady_clock: monotonic seconds.
        rows: the rows that can be shown.
        row: the first one to show.
    """

    WIDTH = 96

    def __init__(
        self,
        view: ViewState,
        steady_clock: Callable[[], float],
        rows: Sequence[EventRow],
        row: EventRow,
    ) -> None:
        super().__init__(view, steady_clock)
        self._rows = rows
        self._at = next(index for index, each in enumerate(rows) if each.main is row.main)

    @property
    def row(self) -> EventRow:
        """The row that is shown."""
        return self._rows[self._at]

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the row's text and the fields of its events; the keys stay in sight."""
        text: list[Line] = []
        # The newest first, which is what a folded row was opened for.
        for entry in reversed(self.row.entries):
            text += [*([[]] if text else []), *self._entry(entry, width)]
        keys = [("esc", "back"), ("left right", "other events")]
        if self.row.main.step is not None and self.row.main.stage:
            keys.insert(0, ("enter", "go there in the charts"))
        return self.with_foot([*text, []], keys_lines(keys, width), height)

    def _entry(self, entry: Entry, width: int) -> list[Line]:
        view = self.view
        where = f"  {entry.stage}" if entry.stage else ""
        where += f", step {entry.step}" if entry.step is not None else ""
        by = f"  by {entry.asked_by}" if entry.asked_by else ""
        clock = format_clock(entry.time, view.zone).strip()
        left = "  abandoned by a rollback" if entry.abandoned else ""
        loud = {"warn": "warn", "error": "error"}.get(entry.level, "strong")
        lines: list[Line] = [
            [(f"{clock}{where}", "muted"), (f"  {entry.kind.value}{by}{left}", "muted")],
            *([(line, loud)] for line in wrap_cells(view.glyphs.spell(entry.text), width)),
        ]
        if isinstance(entry, CommandRow):
            for answer in entry.answers:
                clock = format_clock(answer.time, view.zone).strip()
                lines += _fields({f"{answer.status} {clock}": answer.reason}, width)
            return lines + _fields(entry.command.arguments, width)
        event = view.newest.history.event(entry.seq) if entry.seq else None
        return lines if event is None else lines + _fields(_more_than(entry.text, event), width)

    def press(self, key: str) -> None:
        """Scroll, or show another row."""
        by = {"left": -1, "right": 1}.get(key, 0)
        if by:
            self._at = min(max(self._at + by, 0), len(self._rows) - 1)
            self._top = 0
            self.refresh_text()
        self.scroll({"k": "up", "j": "down"}.get(key, key))

    def answer(self) -> None:
        """Return the entry, if it has a step."""
        main = self.row.main
        self.dismiss(main if main.step is not None and main.stage else None)


def _more_than(text: str, event: Event) -> Mapping[str, object]:
    """Return the fields of an event that a text does not say already."""
    return {
        name: value
        for name, value in event_object(event).items()
        if name not in _HEADED and not (isinstance(value, str) and value in text)
    }


def _fields(values: Mapping[str, Any], width: int) -> list[Line]:
    """Return one line for each value that is not empty, wrapped below where it begins."""
    lines: list[Line] = []
    for name, value in values.items():
        if value is None or value in ("", [], {}, ()):
            continue
        head = f"{' ' * _INDENT}{name} "
        sentences = isinstance(value, list) and all(isinstance(part, str) for part in value)
        for part in value if sentences else [value]:
            for line in wrap_cells(_spelled(part), max(width - len(head), 20)):
                lines.append([(head, "muted"), (line, "text")])
                head = " " * len(head)
    return lines


def _spelled(value: object) -> str:
    """Return a value in words and rounded numbers."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return format_value(value)
        case list() | tuple():
            return ", ".join(map(_spelled, value))
        case dict():
            return ", ".join(f"{name} {_spelled(each)}" for name, each in value.items())
    return "none" if value is None else str(value)
