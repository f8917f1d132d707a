"""The common parts of the benchmarks: clocks, alternating legs, child processes, reports.

On one CPU thread a benchmark measures processor time: on an idle machine it equals wall time, and
on a busy one only processor time shows the cost of a run. Otherwise it measures wall time. Two
sides that are compared run in one process and take turns leg by leg, so that other load affects
both alike. Parts that need a fixed number of threads or their own memory peak run in child
processes.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sf_tui import errors
from sf_tui.errors import RunError, SfError

if TYPE_CHECKING:
    from rich.table import Table


class Reading(NamedTuple):
    """Both clocks at one moment, or the time elapsed on both, in seconds."""

    wall: float
    processor: float
    """Summed over all threads of this process."""

    def since(self, before: Reading) -> Reading:
        """Return the time elapsed since an earlier reading."""
        return Reading(self.wall - before.wall, self.processor - before.processor)


def read_clocks() -> Reading:
    """Read both clocks."""
    return Reading(time.perf_counter(), time.process_time())


@dataclass(frozen=True)
class Clock:
    """The clock that a benchmark uses."""

    by_processor: bool

    @classmethod
    def for_device(cls, device_type: str, threads: int) -> Clock:
        """Choose the clock for a device (`cpu`, `cuda`, …) and a number of CPU threads."""
        return cls(device_type == "cpu" and threads == 1)

    @property
    def name(self) -> str:
        """The clock's name in reports."""
        return "processor" if self.by_processor else "wall"

    def seconds(self, readings: Sequence[Reading]) -> list[float]:
        """Return the seconds of each reading on this clock."""
        return [one.processor if self.by_processor else one.wall for one in readings]

    def now(self) -> float:
        """Return the clock's time in seconds; only differences are meaningful."""
        return time.process_time() if self.by_processor else time.perf_counter()


PassOn = Callable[[], None]
Side = Callable[[PassOn], None]
"""Work that calls its argument at the end of each leg."""

# A, B, B, A: neither side is always first, and a drift in machine speed cancels out.
_ORDER = (0, 1, 1, 0)


class _SideStoppedError(Exception):
    """The other side failed, so this one has no counterpart."""


class _Relay:
    """Whose turn it is, and the time of each leg."""

    def __init__(self, clocks: Callable[[], Reading]) -> None:
        self.legs: tuple[list[Reading], list[Reading]] = ([], [])
        self.failure: BaseException | None = None
        self._clocks = clocks
        self._changed = threading.Condition()
        self._order = cycle(_ORDER)
        self._turn = next(self._order)
        self._finished = [False, False]
        self._since = clocks()

    def run(self, side: Side, number: int) -> None:
        """Run one side (the body of its thread)."""
        try:
            self._wait_for_turn(number)
            side(lambda: self._pass_on(number))
        except _SideStoppedError:
            return
        except BaseException as error:
            self.failure = self.failure or error
        finally:
            with self._changed:
                self._finished[number] = True
                self._turn = 1 - number
                self._changed.notify_all()

    def _pass_on(self, number: int) -> None:
        self.legs[number].append(self._clocks().since(self._since))
        with self._changed:
            self._turn = next(self._order)
            if self._finished[self._turn]:
                self._turn = number
            self._changed.notify_all()
        self._wait_for_turn(number)

    def _wait_for_turn(self, number: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._turn == number or self.failure is not None)
        if self.failure is not None:
            raise _SideStoppedError
        self._since = self._clocks()


def alternate(
    first: Side, second: Side, clocks: Callable[[], Reading] = read_clocks
) -> tuple[list[Reading], list[Reading]]:
    """Run two sides in turn, one leg at a time and never both at once; time each leg.

    Args:
        first: called in its own thread with a function to call at the end of each leg.
        second: the same; the leg after the last call is not timed.
        clocks: reads the time.

    Returns:
        The times of each side's legs. The first leg includes the side's preparation.

    Raises:
        BaseException: an exception of either side; the other side stops at its next leg.
    """
    relay = _Relay(clocks)
    threads = [
        threading.Thread(target=relay.run, args=(side, number), daemon=True)
        for number, side in enumerate((first, second))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if relay.failure is not None:
        raise relay.failure
    return relay.legs


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios of adjacent legs."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def exchanged_ratio(first: float, second: float) -> tuple[float, float]:
    """Return a ratio of two works, and by how much one side of a comparison was slower.

    Two copies of one model in two threads of one process are not equally fast, whatever is done
    with them: their memory lies in different places. If the works exchange their sides, this
    multiplies one ratio and divides the other, so it cancels out of their geometric mean.

    Args:
        first: the ratio with the first work on the first side.
        second: the same with the first work on the second side.
    """
    return math.sqrt(first * second), math.sqrt(first / second) - 1


# The libraries below torch and numpy each read a different variable.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


# glibc gives each thread a heap of its own and returns its free end to the system after every
# step, or doesn't, depending on what happens to lie there. Two plain Trainers side by side had 1
# and 1,415 page faults a step, and differed by 4 % in time. One heap that is never cut treats both
# alike.
_STEADY_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}


def run_part(
    part: str, arguments: Mapping[str, Any], threads: int, *, steady_memory: bool = False
) -> dict[str, Any]:
    """Run one part of a benchmark in a child process and return its result.

    Args:
        part: a name that `sf_tui.bench.__main__` knows.
        arguments: the part's arguments; must be JSON-serializable.
        threads: CPU threads of that process.
        steady_memory: keep freed memory in the process, for two sides that differ by little.

    Raises:
        SfError: the part failed; if it raised an SfError, the same error.
    """
    environment = dict(os.environ)
    environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    environment["TOKENIZERS_PARALLELISM"] = "false"
    if steady_memory:
        environment |= _STEADY_MEMORY
    done = subprocess.run(
        [sys.executable, "-m", "sf_tui.bench", part, json.dumps(dict(arguments))],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    if done.stdout:
        failure = json.loads(done.stdout)
        kind: type[SfError] = getattr(errors, failure["kind"], RunError)
        raise kind(failure["message"], failure["hint"])
    code = done.returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    raise RunError(
        f"the measuring process '{part}' {how}",
        "its output is above",
    )


def failure_json(error: SfError) -> str:
    """Return the line in which a part passes an error to `run_part`."""
    return json.dumps({"kind": type(error).__name__, "message": error.message, "hint": error.hint})


def peak_memory_bytes() -> int:
    """Return the peak resident size of this process."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss starts at the size of the parent process; VmHWM doesn't.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def read_cases(path: Path, schema: int) -> list[dict[str, Any]]:
    """Return the cases in a file, skipping torn lines and lines of another schema."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row.get("schema") == schema:
            rows.append(row)
    return rows


def append_case(path: Path, row: dict[str, Any]) -> None:
    """Append a case to a file on its own line, even after a torn one."""
    torn = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if torn else "") + json.dumps(row) + "\n")


@dataclass(frozen=True)
class Figure:
    """One result."""

    name: str
    """Its key in the JSON object."""
    meaning: str
    """Its meaning, as the table shows it."""
    value: float
    wanted: str = ""
    """The bound that it should keep; empty if there is none."""


@dataclass(frozen=True)
class BenchReport:
    """The results of one benchmark."""

    bench: str
    figures: tuple[Figure, ...]
    conditions: dict[str, Any]
    """Conditions of the measurement: model, threads, batch, repetitions, …"""
    measured: dict[str, Any]
    """The data from which the figures were computed; times in seconds, sizes in bytes."""

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object for scripts: the figures by name, then the rest."""
        return {
            "bench": self.bench,
            **{figure.name: figure.value for figure in self.figures},
            "wanted": {figure.name: figure.wanted for figure in self.figures if figure.wanted},
            "conditions": self.conditions,
            "measured": self.measured,
        }

    def as_plain(self) -> dict[str, Any]:
        """Return the report as JSON types; `from_plain` restores it at the other end of a pipe."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> BenchReport:
        """Restore a report from `as_plain`."""
        return cls(
            plain["bench"],
            tuple(Figure(**figure) for figure in plain["figures"]),
            plain["conditions"],
            plain["measured"],
        )

    def as_table(self) -> Table:
        """Return the figures as a table with the conditions below it."""
        # Deferred: the measuring processes never print a table.
        from rich.table import Table

        caption = ", ".join(f"{name} {_short(value)}" for name, value in self.conditions.items())
        table = Table(title=f"sf bench {self.bench}", caption=caption, box=None, pad_edge=False)
        table.add_column("figure", overflow="fold")
        table.add_column("what it is", overflow="fold")
        table.add_column("measured", justify="right")
        table.add_column("wanted")
        for figure in self.figures:
            table.add_row(figure.name, figure.meaning, _short(figure.value), figure.wanted)
        return table


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
