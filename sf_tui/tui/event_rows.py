"""The rows of the events panel: entries folded into rows, the pinned ones, and the chosen one.

Knows entries; knows nothing of widths or widgets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sf_tui.tui.activity import ActivityLog, CommandRow, Entry, Kind

FEWEST_ROWS_TO_PIN = 2
"""Rows of a panel below which nothing is pinned: it would show nothing else."""
_MOST_PINNED = 3


@dataclass(frozen=True)
class EventRow:
    """One row: an entry, or checkpoints that follow each other, or a command and its checkpoint.

    Attributes:
        entries: oldest first; at least one.
    """

    entries: tuple[Entry, ...]

    @property
    def main(self) -> Entry:
        """The entry that gives the row its time, place and paint."""
        first = self.entries[0]
        return self.entries[-1] if first.kind is Kind.CHECKPOINT else first

    @property
    def text(self) -> str:
        """What the row says."""
        if len(self.entries) == 1 or self.main is self.entries[0]:
            return self.main.text
        first, last = self.entries[0], self.entries[-1]
        return (
            f"{len(self.entries)} checkpoints, steps {first.step} to {last.step}; newest: "
            f"{last.text.removeprefix('checkpoint ')}"
        )


def fold(entries: Iterable[Entry]) -> list[EventRow]:
    """Return the rows of some entries, with checkpoints in a row folded."""
    rows: list[list[Entry]] = []
    for entry in entries:
        if rows and _belongs(entry, rows[-1]):
            rows[-1].append(entry)
        else:
            rows.append([entry])
    return [EventRow(tuple(row)) for row in rows]


def _belongs(entry: Entry, row: Sequence[Entry]) -> bool:
    if entry.kind is not Kind.CHECKPOINT:
        return False
    first = row[0]
    if isinstance(first, CommandRow):
        # What the command asked for.
        saved = first.command.op == "checkpoint"
        return saved and len(row) == 1 and (first.stage, first.step) == (entry.stage, entry.step)
    return (
        first.kind is Kind.CHECKPOINT
        and first.stage == entry.stage
        and first.abandoned == entry.abandoned
    )


def pinned(activity: ActivityLog, wanted: str = "", most: int = _MOST_PINNED) -> list[EventRow]:
    """Return the entries that stay in sight: the newest alerts and the newest verdict.

    Args:
        activity: the run's.
        wanted: text in small letters that they must contain.
        most: the most rows; one is left for each kind before a kind gets a second.
    """
    holding = [row for row in activity.notable if not row.abandoned and row.contains(wanted)]
    alerts = [row for row in holding if row.kind is Kind.ALERT and row.level != "info"]
    # What an earlier stage was warned of is history.
    alerts = [row for row in alerts if row.stage == alerts[-1].stage]
    verdicts = [row for row in holding if row.kind is Kind.VERDICT][-1:]
    kept = [*alerts[-max(most - len(verdicts), 1) :], *verdicts]
    return [EventRow((row,)) for row in sorted(kept, key=lambda row: row.seq)]


@dataclass
class EventList:
    """Which rows there are, and which one the operator has chosen.

    Attributes:
        chosen: the chosen row's newest entry; None while the list follows the newest row.
    """

    chosen: Entry | None = None
    _key: tuple[object, ...] = ()
    _rows: list[EventRow] = field(default_factory=list)

    def rows(self, activity: ActivityLog, wanted: str) -> list[EventRow]:
        """Return the rows whose entries contain a text, oldest first."""
        key = (id(activity), activity.version, len(activity.rows), wanted.lower())
        if key != self._key:
            self._key = key
            text = wanted.lower()
            self._rows = fold(row for row in activity.rows if not text or row.contains(text))
        return self._rows

    def index(self, rows: Sequence[EventRow]) -> int | None:
        """Return the position of the chosen row; None while the list follows the newest one."""
        if self.chosen is None:
            return None
        for index in range(len(rows) - 1, -1, -1):
            if any(entry is self.chosen for entry in rows[index].entries):
                return index
        # A filter or the log's limit has taken it: the nearest one in time.
        later = [at for at, row in enumerate(rows) if row.main.time >= self.chosen.time]
        return later[0] if later else None

    def move(self, rows: Sequence[EventRow], by: int) -> None:
        """Choose another row; below the newest one the list follows again."""
        if not rows:
            return
        at = self.index(rows)
        # The first press up chooses the newest row.
        target = (len(rows) if at is None else at) + by
        self.chosen = None if target >= len(rows) else rows[max(target, 0)].main
