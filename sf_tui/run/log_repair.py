"""Repair of a damaged event log, so that a worker can continue it and its intact lines are kept.

The damaged log is kept beside the repaired one. `lines_lost` events mark what is missing, so that
`seq` still rises by one and no checkpoint is newer than the log.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import orjson

from sf_tui.errors import RunError
from sf_tui.run.clock import rfc3339_now
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import read_regular, reason_of, replace_file
from sf_tui.run.events import EventTail, JsonObject, unreadable_error
from sf_tui.run.hosted import host_name
from sf_tui.vocabulary.declared import LARGEST_COUNT
from sf_tui.vocabulary.events import LinesLost, event_object
from sf_tui.vocabulary.sizes import counted


@dataclass(frozen=True)
class NewestCheckpoint:
    """The checkpoint that covers most of the log.

    Attributes:
        name: STAGE/step-NNNNNN.
        seq: the last event in the log when it was written.
    """

    name: str
    seq: int


def resume_with_repair(run: RunDirectory) -> str:
    """Return the command that repairs a run's log and continues it."""
    return f"sf resume {shlex.quote(str(run.path))} --repair-log"


def _continued(run: RunDirectory) -> str:
    host = host_name(run)
    if host:
        return f", and {host}'s own resume continues it"
    return " and continues from the newest checkpoint"


def newest_checkpoint(run: RunDirectory) -> NewestCheckpoint | None:
    """Return the checkpoint with the largest `seq`; unreadable ones are skipped."""
    found: list[NewestCheckpoint] = []
    # The worker that loads a checkpoint judges whether it is intact.
    for state in run.checkpoints.glob("*/step-*/state.json"):
        try:
            facts = orjson.loads(read_regular(state))
        except (OSError, orjson.JSONDecodeError):
            continue
        seq = facts.get("seq") if isinstance(facts, dict) else None
        if type(seq) is int and 0 <= seq <= LARGEST_COUNT:
            found.append(NewestCheckpoint(f"{state.parent.parent.name}/{state.parent.name}", seq))
    return max(found, key=lambda checkpoint: checkpoint.seq, default=None)


def check_log(run: RunDirectory, last_seq: int) -> None:
    """Refuse to continue a log that ends before the newest checkpoint was written.

    Raises:
        RunError: events that precede a checkpoint are missing.
    """
    newest = newest_checkpoint(run)
    if newest is not None and newest.seq > last_seq:
        end = f"ends with event {last_seq}" if last_seq else "is empty"
        raise RunError(
            f"{run.events}: {end}, but the checkpoint {newest.name} was written after event "
            f"{newest.seq}: the log was emptied, cut or replaced",
            f"put the log back, or `{resume_with_repair(run)}` marks the gap{_continued(run)}",
        )


def repair_log(run: RunDirectory) -> str:
    """Remove a log's damaged lines and mark what is missing; return a description.

    The caller holds the run's lock. The original log is kept as `events.jsonl.damaged-TIME`. An
    undamaged log is left unchanged.

    Raises:
        RunError: the log is not a regular file, or can't be read or written.
    """
    tail = EventTail(run.events)
    kept: list[tuple[JsonObject, int]] = []
    try:
        content = read_regular(run.events) if run.events.exists() else b""
        for event in tail.iterate_objects():
            # A later line with a smaller `seq` shows that this line is misplaced.
            while kept and kept[-1][1] >= event["seq"]:
                kept.pop()
            kept.append((event, tail.last_seq))
    except OSError as error:
        raise unreadable_error(run.events, error) from error
    newest = newest_checkpoint(run)
    lines: list[bytes] = []
    last_seq = lost = 0
    for event, end in kept:
        if event["seq"] > last_seq + 1:
            lines.append(_line(_lost(last_seq + 1, event["seq"] - 1)))
            lost += event["seq"] - last_seq - 1
        lines.append(_line(event))
        last_seq = end
    if newest is not None and newest.seq > last_seq:
        lines.append(_line(_lost(last_seq + 1, newest.seq)))
        lost += newest.seq - last_seq
    if not tail.is_damaged and not lost:
        return f"{run.events}: nothing to repair"
    stamp = rfc3339_now().replace(":", "").replace("-", "").partition(".")[0].rstrip("Z")
    aside = run.events.with_name(f"{run.events.name}.damaged-{stamp}")
    try:
        replace_file(aside, content)
        replace_file(run.events, b"".join(lines))
    except OSError as error:
        raise RunError(
            f"{run.events}: can't be repaired: {reason_of(error)}",
            "check the owner of the run directory and the room on its disk",
        ) from error
    return (
        f"{run.events}: {counted(tail.unreadable, 'damaged line')} taken out, "
        f"{counted(lost, 'event')} missing; the log as it was: {aside.name}"
    )


def _line(event: JsonObject) -> bytes:
    return orjson.dumps(event) + b"\n"


def _lost(first: int, last: int) -> JsonObject:
    which = f"event {first} is" if first == last else f"events {first} to {last} are"
    return event_object(
        LinesLost(
            until=last,
            level="warn",
            message=f"{which} lost: the log was damaged and repaired; a rule that fired there once "
            "may fire again, and a command that was given there is refused again",
            seq=first,
            time=rfc3339_now(),
        )
    )
