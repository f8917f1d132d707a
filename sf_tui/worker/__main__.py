"""A detached worker: `python -m sf_tui.worker RUN_DIR`, started by `sf run` and `sf resume`.

Its parent may go at any time; what it prints goes to the run's worker.log. With
`--accept-changed-data` it goes on although files outside the run have changed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sf_tui.printable import guard_streams, printable
from sf_tui.run.directory import RunDirectory
from sf_tui.worker.stop import StopSignals


def main() -> int:
    """Play the run in the directory that the command line names; return the exit code."""
    guard_streams()
    signals = StopSignals()
    signals.install()
    # Deferred: torch takes seconds to import, and a signal in that time must be remembered.
    from sf_tui.errors import SfError
    from sf_tui.worker.worker import Worker

    try:
        accepted = "--accept-changed-data" in sys.argv[2:]
        run = RunDirectory(Path(sys.argv[1]))
        return Worker(run, signals, accept_changed_data=accepted).work()
    except SfError as error:
        print(printable(str(error)), file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
