"""The process of a test beside the training: `python -m sf_tui.worker.beside_process`.

Reads its request and then `hold` and `go on` from standard input, and ends when that ends. Writes
its progress and its result as JSON lines to standard output; see `beside_test`. Reads the run
directory and the copy of the weights, and writes nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson

from sf_tui.worker.beside_test import EVENT, FAILED, GO_ON, HOLD, NOTES, PROGRESS
from sf_tui.worker.held_clock import HeldClock

if TYPE_CHECKING:
    from sf_tui.recovery.progress import Progress
    from sf_tui.vocabulary.events import Event

_EVERY_S = 1.0
_SPARED_SHARE = 0.05
"""Of a GPU's memory, left to the training."""


class Gate:
    """Follows the standard input: closed while the worker holds the test.

    Args:
        lines: the input, after the request.

    Attributes:
        clock: seconds of the test, without those spent in `wait`.
    """

    def __init__(self, lines: IO[bytes]) -> None:
        self.clock = HeldClock()
        self._lines = lines
        self._open = threading.Event()
        self._open.set()

    def follow(self) -> None:
        """Follow the input in a thread; its end ends this process."""
        threading.Thread(target=self._follow, daemon=True).start()

    @property
    def is_open(self) -> bool:
        """Whether the test may go on."""
        return self._open.is_set()

    def wait(self) -> None:
        """Wait until the worker lets the test go on."""
        # Not in the thread that follows the input: until the test gets here, it works.
        self.clock.hold()
        self._open.wait()
        self.clock.go_on()

    def _follow(self) -> None:
        for line in self._lines:
            if line == HOLD:
                self._open.clear()
            elif line == GO_ON:
                self._open.set()
        # Nobody waits for the result any more, and an exception would end this thread alone.
        os._exit(1)


class Messages:
    """Writes messages to the worker.

    Args:
        out: the worker's end.
    """

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._part = ""
        self._last_s = 0.0

    def send(self, **message: Any) -> None:
        """Write a message."""
        self._out.write(orjson.dumps(message) + b"\n")
        self._out.flush()

    def progress(self, now: Progress) -> None:
        """Write the progress at each new part, and now and then."""
        at_s = time.monotonic()
        if now.part != self._part or at_s - self._last_s >= _EVERY_S:
            self._part, self._last_s = now.part, at_s
            self.send(**{PROGRESS: asdict(now)})


def main() -> int:
    """Run the test that the first line of the input asks for; return the exit code."""
    # What libraries print belongs with the errors.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # Unbuffered: a thread that reads a buffer holds its lock, and then Python can't end.
    lines = os.fdopen(0, "rb", buffering=0, closefd=False)
    request = orjson.loads(lines.readline())
    gate = Gate(lines)
    gate.follow()
    # If memory runs out, the kernel ends this process and not the training.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    messages = Messages(out)
    # Deferred: importing torch takes seconds, and the worker may end meanwhile.
    from sf_tui.errors import SfError
    from sf_tui.worker.stop import as_run_error, one_line

    try:
        _take_room(request)
        run_test(request, gate, messages)
    except SfError as error:
        messages.send(**{FAILED: one_line(error)})
    except Exception as error:
        failure = as_run_error(error, Path(request["run"]))
        if failure is None:
            raise
        messages.send(**{FAILED: failure.message})
    return 0


def run_test(request: dict[str, Any], gate: Gate, messages: Messages) -> None:
    """Run a test and send its progress and its result.

    Args:
        request: what it is asked for; see `beside.start_beside`.
        gate: holds it.
        messages: receives them.

    Raises:
        SfError: it can't be made.
    """
    from sf_tui.cases.assemble import CaseOverrides, run_case
    from sf_tui.cases.operations import diagnose
    from sf_tui.cases.rows import CaseNeeds
    from sf_tui.cases.run_weights import RunRecord
    from sf_tui.engine.checkpoint import read_checkpoint
    from sf_tui.profile import load_profile
    from sf_tui.run.directory import RunDirectory
    from sf_tui.run.events import read_events
    from sf_tui.run.state import fold
    from sf_tui.vocabulary.events import own_fields

    run = RunDirectory(Path(request["run"]))
    profile = load_profile(run.profile)
    point = read_checkpoint(Path(request["weights"]))
    assert point is not None  # the worker has written it

    def report(now: Progress) -> None:
        gate.wait()
        messages.progress(now)

    history = fold(_until(read_events(run.events), request["seq"]))
    case = run_case(
        RunRecord(run, profile, history, point),
        CaseNeeds(request["examples"], every_example=request["thorough"]),
        CaseOverrides(task=request["task"], stage=point.stage),
    )
    case.case.check_stop, case.case.clock = gate.wait, gate.clock
    found = diagnose(
        case,
        examples=request["examples"],
        thorough=request["thorough"],
        time_s=request["time"],
        report=report,
    )
    messages.send(**{EVENT: own_fields(found.event), NOTES: list(case.notes)})


def _until(events: Iterator[Event], seq: int) -> Iterator[Event]:
    """Yield the events up to a number: the run goes on while they are read."""
    for event in events:
        yield event
        if event.seq >= seq:
            return


def _take_room(request: dict[str, Any]) -> None:
    """Claim no more of a GPU than is free, so that the training is never out of memory first.

    Raises:
        RunError: the test doesn't fit.
    """
    import torch

    from sf_tui.worker.beside_room import check_room

    if not torch.cuda.is_available():
        return
    free, total = torch.cuda.mem_get_info()
    check_room(request["bytes"], free, request["device"])
    spared = _SPARED_SHARE * total
    torch.cuda.set_per_process_memory_fraction(max(free - spared, 0.0) / total)


if __name__ == "__main__":
    sys.exit(main())
