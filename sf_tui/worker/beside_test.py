"""A recovery test in a process of its own: its beginning, its messages, its end.

Knows no run: what the process is asked for is one JSON object on its standard input. Then follow
`hold` and `go on`; the end of the input ends the process, so it never outlives the worker. It
answers with a JSON object on each line of its standard output. See `beside_process` for that side.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from sf_tui.run.durable import remove
from sf_tui.vocabulary.commands import Command
from sf_tui.worker.held_clock import HeldClock
from sf_tui.worker.operation import Operation

HOLD, GO_ON = b"hold\n", b"go on\n"
"""What the process reads after its request."""
PROGRESS, EVENT, NOTES, FAILED = "progress", "event", "notes", "failed"
"""Keys of what it answers."""

_ERRORS = "errors.txt"
_READ_BYTES = 1 << 16
_MOST_ERROR_BYTES = 4096


class BesideTest:
    """A test that runs beside the training.

    Attributes:
        command: its command, with the stage and step of the weights that it tests.
        operation: what it reports.
        process: the process.
    """

    def __init__(
        self,
        command: Command,
        folder: Path,
        request: Mapping[str, Any],
        environment: Mapping[str, str],
    ) -> None:
        """Start the process.

        Args:
            command: its command, with the stage and step of the weights that it tests.
            folder: a folder of its own with the copy of the weights; deleted at the end.
            request: what it is asked for.
            environment: its environment variables.

        Raises:
            OSError: it can't be started.
        """
        self.command = command
        self._clock = HeldClock()
        self.operation = Operation(command, None, beside=True, clock=self._clock)
        self._folder = folder
        self._rest = b""
        self._is_held = False
        with (folder / _ERRORS).open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sf_tui.worker.beside_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                # Ctrl-C is for the worker, which ends it in its own way.
                process_group=0,
            )
        assert self.process.stdout is not None  # it is a pipe
        os.set_blocking(self.process.stdout.fileno(), False)
        self._send(orjson.dumps(request) + b"\n")

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what it has answered since the last call, without waiting for more.

        The last one is the result or, with the key `failed`, why there is none.
        """
        assert self.process.stdout is not None  # it is a pipe
        # Before the output is read: what a process writes, it writes before it ends.
        code = self.process.poll()
        while True:
            try:
                read = os.read(self.process.stdout.fileno(), _READ_BYTES)
            except BlockingIOError:
                break
            if not read:
                break
            self._rest += read
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            message = orjson.loads(line)
            yield message
            if EVENT in message or FAILED in message:
                return
        if code is not None:
            yield {FAILED: self._why_ended(code)}

    def hold(self, held: bool) -> None:
        """Let it wait before its next pass, or go on."""
        if held != self._is_held:
            self._is_held = held
            if held:
                self._clock.hold()
            else:
                self._clock.go_on()
            self._send(HOLD if held else GO_ON)

    def end(self) -> None:
        """End the process at once if it is still there, and delete its folder."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        remove(self._folder)

    def _send(self, line: bytes) -> None:
        assert self.process.stdin is not None  # it is a pipe
        # If it has ended, `messages` yields why.
        with suppress(BrokenPipeError):
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def _why_ended(self, code: int) -> str:
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        with (self._folder / _ERRORS).open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _MOST_ERROR_BYTES, 0))
            said = file.read().decode(errors="replace").strip().splitlines()
        last = f": {said[-1][:200]}" if said else ""
        return f"its process ended with exit code {code}{last}"
