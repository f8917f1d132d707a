"""Expansion of `~` in paths, the same wherever a path is given.

The shell expands `~/x` only at the start of a word. In `--run-dir=~/x`, in quotes and in a profile,
the `~` arrives unexpanded.
"""

from __future__ import annotations

import os
from pathlib import Path

from sf_tui.errors import UsageError


def expand_home(text: str) -> str:
    """Return a path with its leading `~` or `~user` expanded.

    Raises:
        UsageError: the user does not exist; the path would name a folder called `~…`.
    """
    expanded = os.path.expanduser(text)  # noqa: PTH111  pathlib's error omits the user
    if text.startswith("~") and expanded == text:
        name = text[1:].partition("/")[0]
        raise UsageError(
            f"{text}: there is no user '{name}'" if name else f"{text}: no home folder is known",
            f"a file or folder of that very name is written ./{text}",
        )
    return expanded


def user_path(text: str | Path) -> Path:
    """Return the path that a command-line option or argument names.

    The default of an option is a `Path` already.

    Raises:
        UsageError: the path starts with a `~` that can't be expanded.
    """
    return Path(expand_home(str(text)))
