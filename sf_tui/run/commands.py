"""The command log: operators' requests to a running worker.

Any number of processes append whole lines. Only the worker reads them, in order, and answers each
with `command` events in the event log.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from typing import Any

import orjson

from sf_tui.errors import RunError, UsageError
from sf_tui.run.clock import rfc3339_now
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import check_regular
from sf_tui.run.events import JsonLinesTail, JsonObject, append_line
from sf_tui.run.sender import sender_name


class CommandTail(JsonLinesTail):
    """Follow a command log, a poll at a time.

    A line written by hand may have no id: it gets one of its place in the file, the same at every
    reading, so that each such line is answered.
    """

    def iterate(self) -> Iterator[JsonObject]:
        """Yield the commands whose lines were completed since the last poll.

        Raises:
            OSError: the file can't be read, or is no regular file.
        """
        return self._iterate(self._with_id)

    def _with_id(self, line: JsonObject) -> JsonObject:
        return line if line.get("id") is not None else line | {"id": f"unnamed-{self.offset}"}


def request_command(
    run: RunDirectory, action: str, arguments: dict[str, Any] | None = None, by: str | None = None
) -> str:
    """Append a command and return its id; the worker's `command` events carry this id.

    Args:
        run: the run.
        action: the profile's action.
        arguments: of the action's op.
        by: who asks; default: this process's user, host and terminal.

    Raises:
        UsageError: an argument can't be written as JSON (a number of more than 64 bits).
        RunError: the log can't be written (disk full, read-only).
    """
    identity = f"c-{secrets.token_hex(6)}"
    command = {
        "id": identity,
        "time": rfc3339_now(),
        "action": action,
        "arguments": arguments or {},
        "by": sender_name() if by is None else by,
    }
    try:
        line = orjson.dumps(command)
    except orjson.JSONEncodeError as error:
        raise UsageError(f"{action}: an argument can't be sent: {error}", "check it") from error
    try:
        # O_NOFOLLOW: a link must not redirect the line into another file.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        # O_NONBLOCK: a FIFO without a reader fails at once instead of blocking.
        handle = os.open(run.commands, flags | os.O_NONBLOCK, 0o666)
        try:
            check_regular(os.fstat(handle).st_mode, run.commands)
            # Several consoles may write at once, and appends on a network file system are not
            # atomic.
            fcntl.flock(handle, fcntl.LOCK_EX)
            # End a line that another writer left torn; otherwise this one would be glued to it.
            append_line(handle, (b"" if _ends_with_newline(run) else b"\n") + line + b"\n")
        finally:
            os.close(handle)
    except OSError as error:
        raise RunError(
            f"{run.commands}: can't send a command: {error.strerror}",
            "check the owner of the run directory and the room on its disk",
        ) from error
    return identity


def _ends_with_newline(run: RunDirectory) -> bool:
    with run.commands.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
