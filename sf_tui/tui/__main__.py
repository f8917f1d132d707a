"""`python -m sf_tui.tui RUN_DIR`: the console of one run directory, without the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sf_tui.printable import guard_streams, printable
from sf_tui.run.directory import RunDirectory
from sf_tui.tui.session import closing_message, open_console
from sf_tui.tui.terminal import ConsoleOptions


def main() -> int:
    """Open the console and return its exit code."""
    guard_streams()
    parser = argparse.ArgumentParser(prog="python -m sf_tui.tui", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    for option in ("read-only", "lite", "ascii", "light", "no-mouse", "bell"):
        parser.add_argument(f"--{option}", action="store_true")
    wanted = parser.parse_args()
    run = RunDirectory(wanted.run_dir.absolute())
    options = ConsoleOptions(
        read_only=wanted.read_only,
        lite=wanted.lite,
        ascii_only=wanted.ascii,
        light=wanted.light,
        mouse=not wanted.no_mouse,
        bell=wanted.bell,
    )
    code = open_console(run, options)
    print(printable(closing_message(run, code)), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
