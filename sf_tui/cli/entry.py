"""Starts the command line; an interrupt during its imports ends it as quietly as a later one."""

import sys


def main() -> None:
    """Run `sf`."""
    try:
        from sf_tui.cli.app import main as run
    except KeyboardInterrupt:
        from sf_tui.cli.output import INTERRUPTED

        sys.exit(INTERRUPTED)
    run()
