"""`~` in a path, expanded the same way wherever a path is given.

The shell expands `~/x` only at the start of a word; in `--run-dir=~/x`, in quotes and in a profile
it arrives as it was written.
"""

from __future__ import annotations

import os
from pathlib import Path

from sf_tui.errors import UsageError


def expand_home(text: str) -> str:
    """Return a path with its leading `~` or `~user` expanded.

    Raises:
        UsageError: there is no such user, so it would be a folder named `~…`.
    """
    expanded = os.path.expanduser(text)  # noqa: PTH111  pathlib says nothing of which user
    if text.startswith("~") and expanded == text:
        name = text[1:].partition("/")[0]
        raise UsageError(
            f"{text}: there is no user '{name}'" if name else f"{text}: no home folder is known",
            f"a file or folder of that very name is written ./{text}",
        )
    return expanded


def user_path(text: str | Path) -> Path:
    """Return the path that an option or argument of the command line names.

    An option's default comes as the path that it is.

    Raises:
        UsageError: it starts with a `~` that can't be expanded.
    """
    return Path(expand_home(str(text)))
