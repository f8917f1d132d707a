"""The event log: one JSON object a line, append-only, `seq` rising by one.

The writer never leaves a torn line behind that it could have taken back; readers treat a line
without its newline as not there yet. What the events mean is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from sf_tui.errors import RunError
from sf_tui.run.clock import rfc3339_now

Event = dict[str, Any]

_CHUNK_BYTES = 1 << 20


class JsonLinesTail:
    """Follow an append-only file of JSON lines, a poll at a time.

    Attributes:
        offset: bytes taken so far; always just behind a newline.
        unreadable: complete lines that were no JSON object, and were left out.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        self.unreadable = 0

    def poll(self) -> list[Event]:
        """Return the objects whose lines were completed since the last poll."""
        return list(self.iterate())

    def iterate(self) -> Iterator[Event]:
        """Yield the objects whose lines were completed since the last poll, a chunk in memory."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        if size <= self.offset:
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            rest = b""
            while chunk := file.read(_CHUNK_BYTES):
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    self.offset += len(line) + 1
                    event = self._parse(line)
                    if event is not None:
                        yield event

    def _parse(self, line: bytes) -> Event | None:
        if not line.strip():
            return None
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            event = None
        if not isinstance(event, dict):
            self.unreadable += 1
            return None
        return event


class EventTail(JsonLinesTail):
    """Follow an event log, a poll at a time."""


def read_events(path: Path) -> Iterator[Event]:
    """Yield every complete event of a log, oldest first."""
    return EventTail(path).iterate()


def append_line(handle: int, line: bytes) -> None:
    """Append one whole line to an open file, or nothing.

    Args:
        handle: a file descriptor opened with O_APPEND that only this process writes to.
        line: the line with its newline.

    Raises:
        OSError: the disk is full; what had been written of the line was taken back.
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
    """The writer's end of an event log; one process has it at a time (it holds the run's lock).

    Opening it takes back a torn last line, which a kill in the middle of a write leaves behind.

    Attributes:
        seq: number of the last event written; 0 when there is none.
        history: the events that were there when it was opened, oldest first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listeners: list[Callable[[Event], None]] = []
        tail = EventTail(path)
        self.history: list[Event] = tail.poll()
        if tail.unreadable:
            raise RunError(
                f"{path}: {tail.unreadable} line(s) are not JSON; the log was changed by hand or "
                "its disk lost data",
                "put the log back as it was, or start a new run from the newest checkpoint's model",
            )
        self.seq: int = self.history[-1]["seq"] if self.history else 0
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

    def append(self, type_: str, **fields: Any) -> Event:
        """Write one event and return it.

        Raises:
            RunError: the disk is full or gone; the log ends with the event before this one.
        """
        event: Event = {"seq": self.seq + 1, "time": rfc3339_now(), "type": type_, **fields}
        line = orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
        try:
            append_line(self._handle, line)
        except OSError as error:
            raise RunError(
                f"{self.path}: can't write an event: {error.strerror}",
                "make room on the disk, then `sf resume` goes on from the last checkpoint",
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
                "make room on the disk, then `sf resume` goes on from the last checkpoint",
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)
