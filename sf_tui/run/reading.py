"""One run read for showing: its history as far as it can be read, and what is damaged.

Readers go on with what they can read; who would write behind a damaged log refuses it instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from sf_tui.errors import RunDamagedError
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventTail
from sf_tui.run.history import History
from sf_tui.run.liveness import Liveness, probe_liveness
from sf_tui.run.regular_file import reason_of


@dataclass(frozen=True)
class RunReading:
    """What one reading of a run's files found.

    Attributes:
        history: the fold of the events that could be read.
        live: whether a worker is there.
        facts: `run.json`; empty where it is damaged.
        damage: what is damaged, each with the file's name and line; empty for a healthy run.
    """

    history: History
    live: Liveness
    facts: dict[str, object]
    damage: list[str]


def read_run(run: RunDirectory) -> RunReading:
    """Read a run; no damage of its files raises.

    Raises:
        RunError: `run.json` is of a newer version than this program knows.
    """
    facts: dict[str, object] = {}
    damage: list[str] = []
    try:
        facts = run.read_run_json()
    except RunDamagedError as error:
        damage.append(error.message)
    history, of_log = read_history(run)
    damage += of_log
    live = probe_liveness(run)
    damage += live.damage
    return RunReading(history, live, facts, damage)


def read_history(run: RunDirectory) -> tuple[History, list[str]]:
    """Fold a run's log as far as it can be read, and tell where it is damaged."""
    history, tail = History(), EventTail(run.events)
    add = history.add
    try:
        for event in tail.iterate():
            add(event)
    except OSError as error:
        return history, [f"{run.events}: can't be read: {reason_of(error)}"]
    if not run.events.exists():
        return history, [f"{run.events}: missing"]
    return history, describe_damage(run, tail)


def describe_damage(run: RunDirectory, tail: EventTail) -> list[str]:
    """Return where a log is damaged, the first places one by one and the others as a count."""
    told = [line.spell(run.events) for line in tail.damage]
    more = tail.unreadable + tail.gaps - len(told)
    return [*told, f"{run.events}: {more} more damaged lines"] if more else told
