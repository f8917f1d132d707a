"""One part of a benchmark in a child process: `python -m sf_tui.bench PART ARGUMENTS`.

Prints one JSON object on stdout; the output of libraries goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

from sf_tui.bench.harness import failure_json
from sf_tui.errors import SfError
from sf_tui.printable import guard_streams

Part = Callable[..., dict[str, Any]]


def _part_named(name: str) -> Part:
    # Each part imports only what it needs, because the memory of the process is measured.
    if name == "overhead":
        from sf_tui.bench.overhead import measure_overhead

        return measure_overhead
    if name == "hosted":
        from sf_tui.bench.hosted import measure_hosted

        return measure_hosted
    if name == "throughput":
        from sf_tui.bench.throughput import measure_throughput

        return measure_throughput
    if name == "verdict":
        from sf_tui.bench.verdict import measure_verdict

        return measure_verdict
    if name == "repair":
        from sf_tui.bench.repair_table import measure_repair

        return measure_repair

    from sf_tui.bench import memory

    sides: dict[str, Part] = {
        "memory-scene": memory.make_memory_scene,
        "memory-run": memory.measure_run,
        "memory-trainer": memory.measure_trainer,
    }
    return sides[name]


def main() -> int:
    """Run the part named on the command line; return the exit code."""
    guard_streams()
    name, arguments = sys.argv[1], json.loads(sys.argv[2])
    try:
        with contextlib.redirect_stdout(sys.stderr):
            found = _part_named(name)(**arguments)
    except SfError as error:
        print(failure_json(error))
        return error.exit_code
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
