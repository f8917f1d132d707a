"""The event log: one JSON object a line, append-only, `seq` rising by one.

The writer removes a torn last line whenever it can. Readers ignore a line without its newline until
it is complete. They skip and report a damaged line: invalid JSON, fields that violate the
declaration of the event, or an impossible position in the log.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import orjson

from sf_tui.errors import RunError
from sf_tui.run.clock import rfc3339_now
from sf_tui.run.durable import check_regular, open_regular, reason_of
from sf_tui.run.event_parser import EventParser
from sf_tui.run.hosted import resume_by_path
from sf_tui.vocabulary.events import (
    CheckpointWritten,
    Danger,
    Drift,
    Event,
    LinesLost,
    Probe,
    StageFinished,
    StageStarted,
    Step,
    TasksAtRisk,
    event_object,
)
from sf_tui.vocabulary.sizes import counted

JsonObject = dict[str, Any]
AnyEvent = TypeVar("AnyEvent", bound=Event)
T = TypeVar("T")

DAMAGE_KEPT = 20
"""Number of damaged lines that a reader describes; further ones are only counted."""
_CHUNK_BYTES = 1 << 20
Staged = Step | Probe | Drift | Danger | CheckpointWritten | TasksAtRisk | StageFinished
"""Events that can't precede the `stage_started` of their stage."""


@dataclass(frozen=True)
class DamagedLine:
    """A line of a log that can't be used, or one that follows missing lines.

    Attributes:
        line: its number, from 1; 0 if the file was not read from its beginning.
        problem: what is wrong with it.
    """

    line: int
    problem: str

    def spell(self, path: Path) -> str:
        """Return the position and the problem as messages show them."""
        return f"{path}:{self.line}: {self.problem}" if self.line else f"{path}: {self.problem}"


class LineTail:
    """Reader of the lines appended to a JSON-lines file since its last poll.

    Attributes:
        offset: bytes consumed so far; always just after a newline.
        unreadable: number of complete lines that were damaged and skipped.
        damage: the first `DAMAGE_KEPT` of them.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        self.unreadable = 0
        self.damage: list[DamagedLine] = []
        self._from_start = offset == 0
        self._line = 0

    def _iterate(self, read: Callable[[JsonObject], T | str]) -> Iterator[T]:
        """Yield the result of `read` for each line completed since the last poll, in chunks.

        Args:
            read: returns a description of the problem if an object is damaged.

        Raises:
            OSError: the file can't be read or is not a regular file.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return
        check_regular(status.st_mode, self.path)
        if status.st_size <= self.offset:
            return
        loads = orjson.loads
        with open_regular(self.path) as file:
            file.seek(self.offset)
            rest = b""
            while chunk := file.read(_CHUNK_BYTES):
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    self.offset += len(line) + 1
                    self._line += 1
                    try:
                        value = loads(line)
                    except orjson.JSONDecodeError:
                        if line.strip():
                            self._note_damaged(_not_json(line))
                        continue
                    found = read(value) if type(value) is dict else "JSON, but not an object"
                    if isinstance(found, str):
                        self._note_damaged(found)
                    else:
                        yield found

    def _note_damaged(self, problem: str) -> None:
        self.unreadable += 1
        if len(self.damage) < DAMAGE_KEPT:
            self.damage.append(DamagedLine(self._line if self._from_start else 0, problem))


def _not_json(line: bytes) -> str:
    if not line.strip(b"\0"):
        return "zeros instead of JSON"
    return "not JSON"


class JsonLinesTail(LineTail):
    """Reader of a file of JSON objects without declarations."""

    def poll(self) -> list[JsonObject]:
        """Return the objects of the lines completed since the last poll."""
        return list(self.iterate())

    def iterate(self) -> Iterator[JsonObject]:
        """Yield the objects of the lines completed since the last poll.

        Raises:
            OSError: the file can't be read or is not a regular file.
        """
        return self._iterate(lambda line: line)


class EventTail(LineTail):
    """Reader of an event log that returns only events that match their declaration.

    Attributes:
        last_seq: number of the last event returned, or of the last one known to be lost.
        gaps: places where lines are missing; each is also described in `damage`.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        super().__init__(path, offset)
        self.last_seq = 0
        self.gaps = 0
        self._parser = EventParser()
        # The expected next number if the last jump of `seq` was a single wrong number.
        self._next_before_jump = 0
        self._unreadable_before = 0
        self._steps: dict[str, int] = {}
        self._knows_stages = self._from_start

    @property
    def is_damaged(self) -> bool:
        """Whether a line was skipped or is missing."""
        return bool(self.unreadable or self.gaps)

    def poll(self) -> list[Event]:
        """Return the events of the lines completed since the last poll."""
        return list(self.iterate())

    def iterate(self) -> Iterator[Event]:
        """Yield the events of the lines completed since the last poll, one chunk in memory.

        Raises:
            OSError: the file can't be read or is not a regular file.
        """
        return self._iterate(self._read)

    def iterate_objects(self) -> Iterator[JsonObject]:
        """Like `iterate`, but yield the lines' objects, including fields of newer versions.

        Raises:
            OSError: the file can't be read or is not a regular file.
        """

        def read(line: JsonObject) -> JsonObject | str:
            event = self._read(line)
            return event if isinstance(event, str) else line

        return self._iterate(read)

    def _read(self, line: JsonObject) -> Event | str:
        event = self._parser.read(line)
        if isinstance(event, str):
            return event
        if type(event) is Step and event.seq == self.last_seq + 1:
            # Nearly all events are steps and skip the rest of this method.
            steps = self._steps.get(event.stage)
            if steps is not None and event.step <= steps:
                self.last_seq = event.seq
                return event
        return self._place_problem(event) or event

    def _place_problem(self, event: Event) -> str | None:
        """Return why an event can't be at this position; None if it can."""
        seq = event.seq
        jumped = seq != self.last_seq + 1 and (self.last_seq > 0 or self._from_start)
        if jumped and seq <= self.last_seq and seq != self._next_before_jump:
            return f"`seq` {seq} after {self.last_seq}: the line is out of its place"
        if isinstance(event, Staged):
            problem = self._stage_problem(event)
            if problem is not None:
                return problem
        elif isinstance(event, StageStarted):
            self._steps[event.stage] = event.steps
        if jumped:
            self._note_jump(seq)
        self.last_seq = seq
        if isinstance(event, LinesLost):
            self.last_seq = max(seq, event.until)
            self._knows_stages = False
        return None

    def _stage_problem(self, event: Staged) -> str | None:
        steps = self._steps.get(event.stage)
        step = 0 if isinstance(event, StageFinished) else event.step
        if steps is None:
            # A missing line may have been the stage's beginning.
            if self._knows_stages and not self.is_damaged:
                return f"a `{event.TYPE}` event of stage '{event.stage:.60}', which never began"
        # A stage resumed with other data may have become longer, but not by this much.
        elif step > 10 * steps + 1000:
            return f"step {step} of stage '{event.stage:.60}', which has {counted(steps, 'step')}"
        return None

    def _note_jump(self, seq: int) -> None:
        if seq == self._next_before_jump:
            self._next_before_jump = 0
            return
        self._next_before_jump = self.last_seq + 2
        # A damaged line accounts for the missing event and is reported already.
        if seq - self.last_seq - 1 > self.unreadable - self._unreadable_before:
            self.gaps += 1
            if len(self.damage) < DAMAGE_KEPT:
                missing = f"{self.last_seq + 1} to {seq - 1}"
                self.damage.append(
                    DamagedLine(
                        self._line if self._from_start else 0,
                        f"events {missing} are missing before this line",
                    )
                )
        self._unreadable_before = self.unreadable


def read_events(path: Path) -> Iterator[Event]:
    """Yield all complete events of a log, oldest first."""
    return EventTail(path).iterate()


def read_objects(path: Path) -> Iterator[JsonObject]:
    """Yield all complete events of a log as JSON objects, including fields of newer versions."""
    return EventTail(path).iterate_objects()


def damage_error(path: Path, tail: EventTail) -> RunError:
    """Return the error that a writer raises for a damaged log."""
    more = tail.unreadable + tail.gaps - 1
    others = f" (and {counted(more, 'more damaged line')})" if more else ""
    run = shlex.quote(str(path.parent))
    way = resume_by_path(path.parent)
    own = way.startswith("`")
    then = "continues from the newest checkpoint" if own else f"lets {way} continue the run"
    return RunError(
        f"{tail.damage[0].spell(path)}{others}",
        f"`sf resume {run} --repair-log` keeps a copy of the log, takes the damaged lines out and "
        f"{then}",
    )


def unreadable_error(path: Path, error: OSError) -> RunError:
    """Return the error that a writer raises for a log that can't be read."""
    return RunError(
        f"{path}: can't be read: {reason_of(error)}",
        "check its owner; if it is not a regular file, move it away and run "
        f"`sf resume {shlex.quote(str(path.parent))} --repair-log`",
    )


def append_line(handle: int, line: bytes) -> None:
    """Append one whole line to an open file; on failure leave the file unchanged.

    Args:
        handle: a file descriptor opened with O_APPEND that only this process writes to.
        line: the line with its newline.

    Raises:
        OSError: the disk is full; the partial line was removed.
    """
    start = os.fstat(handle).st_size
    written = 0
    try:
        while written < len(line):
            written += os.write(handle, line[written:])
    except OSError:
        if written:
            os.ftruncate(handle, start)
        raise


class EventLog:
    """The writer of an event log; only one process has one at a time (it holds the run's lock).

    Opening it removes a torn last line, which a kill during a write leaves behind.

    Attributes:
        seq: number of the last event written or known to be lost; 0 if there is none.
        history: the events already in the log when it was opened, oldest first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listeners: list[Callable[[Event], None]] = []
        tail = EventTail(path)
        try:
            self.history: list[Event] = tail.poll()
        except OSError as error:
            raise unreadable_error(path, error) from error
        if tail.is_damaged:
            raise damage_error(path, tail)
        self.seq: int = tail.last_seq
        try:
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
            os.ftruncate(self._handle, tail.offset)
        except OSError as error:
            raise RunError(
                f"{path}: can't be written: {error.strerror}", "check its owner and the disk"
            ) from error

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event once it is in the log."""
        self._listeners.append(listener)

    def append(self, event: AnyEvent) -> AnyEvent:
        """Write one event; return it with its number and time.

        Raises:
            RunError: the disk is full or gone; the log ends with the previous event.
        """
        event = replace(event, seq=self.seq + 1, time=rfc3339_now())
        line = orjson.dumps(event_object(event), option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
        try:
            append_line(self._handle, line)
        except OSError as error:
            raise RunError(
                f"{self.path}: can't write an event: {error.strerror}",
                f"make room on the disk, then {resume_by_path(self.path.parent)} "
                "continues from the last checkpoint",
            ) from error
        self.seq += 1
        for listener in self._listeners:
            listener(event)
        return event

    def sync(self) -> None:
        """Wait until the disk has every event."""
        try:
            os.fsync(self._handle)
        except OSError as error:
            raise RunError(
                f"{self.path}: the disk did not take it: {error.strerror}",
                f"make room on the disk, then {resume_by_path(self.path.parent)} "
                "continues from the last checkpoint",
            ) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)
