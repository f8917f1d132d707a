"""A detached worker: `python -m sf_tui.worker RUN_DIR`, started by `sf run` and `sf resume`.

Started by torchrun, it is one rank of several. Its parent may exit at any time; its output goes to
the run's worker.log. With `--accept-changed-data`, it continues even if files outside the run have
changed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sf_tui.printable import guard_streams, printable
from sf_tui.quick_imports import without_collecting
from sf_tui.run.directory import RunDirectory
from sf_tui.worker.stop import StopSignals


def main() -> int:
    """Run the worker on the run directory from the command line; return the exit code."""
    guard_streams()
    signals = StopSignals()
    signals.install()
    with without_collecting():
        # Deferred: importing torch takes seconds, and a signal during that time must not be lost.
        from sf_tui.errors import SfError
        from sf_tui.worker.launched import connect_ranks, is_launched
        from sf_tui.worker.rank_process import follow
        from sf_tui.worker.worker import Worker

    try:
        accepted = "--accept-changed-data" in sys.argv[2:]
        run = RunDirectory(Path(sys.argv[1]))
        if not is_launched(os.environ):
            return Worker(run, signals, accept_changed_data=accepted).work()
        ranks = connect_ranks()
        if not ranks.is_main:
            return follow(run, signals, ranks)
        return Worker(run, signals, accept_changed_data=accepted, ranks=ranks).work()
    except SfError as error:
        print(printable(str(error)), file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
