"""Asks before something is deleted: on a terminal by a question, elsewhere by `--yes`."""

from __future__ import annotations

import sys

from sf_tui.cli.output import write_line
from sf_tui.errors import UsageError


def confirmed(question: str, *, yes: bool, command: str) -> bool:
    """Return whether the user agrees.

    Args:
        question: what is asked, without the question mark.
        yes: `--yes` was given.
        command: what needs the answer, for the error.

    Raises:
        UsageError: there is no terminal to ask on.
    """
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"{command} asks before it deletes, and there is no terminal to ask on",
            "add --yes to delete without a question",
        )
    write_line(f"{question}? [y/N] ", err=True, end="")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
