"""Measured child processes: threads pinned, one at a time, one JSON object back.

A benchmark's parts run in processes of their own, because the number of threads is fixed when
torch is imported and a peak of memory belongs to a whole process. Knows nothing of what they do.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sf_tui import errors
from sf_tui.errors import RunError, SfError

# Each of the libraries below torch and numpy listens to another of these.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_part(part: str, arguments: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """Run one part of a benchmark in a process of its own and return what it found.

    Args:
        part: a name that `sf_tui.bench.__main__` knows.
        arguments: what the part takes; must be JSON.
        threads: CPU threads of that process.

    Raises:
        SfError: the part failed; the error is the part's own where it was one for people.
    """
    environment = dict(os.environ)
    environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    environment["TOKENIZERS_PARALLELISM"] = "false"
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
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    raise RunError(
        f"the measuring process '{part}' {how}",
        "what it printed stands above",
    )


def failure_told(error: SfError) -> str:
    """Return the line by which a part hands an error on to `run_part`."""
    return json.dumps({"kind": type(error).__name__, "message": error.message, "hint": error.hint})


def peak_memory_bytes() -> int:
    """Return the largest resident size that this process ever had."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss begins with the size of the process that started this one; VmHWM doesn't.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
