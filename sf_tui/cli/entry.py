"""Starts the command line; an interrupt during its imports ends it as quietly as a later one."""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run `sf`."""
    try:
        from sf_tui.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    run()
