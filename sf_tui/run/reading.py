"""One run read for showing: its state as far as it can be read, and what is damaged.

Readers use what they can read; a writer refuses a damaged log instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from sf_tui.errors import RunDamagedError
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import reason_of
from sf_tui.run.events import EventTail
from sf_tui.run.liveness import Liveness, probe_liveness
from sf_tui.run.state import RunState


@dataclass(frozen=True)
class RunReading:
    """What one reading of a run's files found.

    Attributes:
        state: the fold of the events that could be read.
        live: whether a worker runs.
        facts: `run.json`; empty where it is damaged.
        damage: what is damaged, each with the file's name and line; empty for a healthy run.
    """

    state: RunState
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
    state, of_log = read_state(run)
    damage += of_log
    live = probe_liveness(run)
    damage += live.damage
    return RunReading(state, live, facts, damage)


def read_state(run: RunDirectory) -> tuple[RunState, list[str]]:
    """Fold a run's log as far as it can be read; also return where it is damaged."""
    state, tail = RunState(), EventTail(run.events)
    add = state.add
    try:
        for event in tail.iterate():
            add(event)
    except OSError as error:
        return state, [f"{run.events}: can't be read: {reason_of(error)}"]
    if not run.events.exists():
        return state, [f"{run.events}: missing"]
    return state, describe_damage(run, tail)


def describe_damage(run: RunDirectory, tail: EventTail) -> list[str]:
    """Return where a log is damaged, the first places one by one and the others as a count."""
    told = [line.spell(run.events) for line in tail.damage]
    more = tail.unreadable + tail.gaps - len(told)
    return [*told, f"{run.events}: {more} more damaged lines"] if more else told
