"""The marks that a process of `sf exec`'s command leaves beside the file named by SF_EXEC.

`sf exec` reads them when the command has ended. The hook, which can't import `sf`, writes others.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from sf_tui.run.durable import replace_file

VARIABLE = "SF_EXEC"
"""Names a JSON file with `old`, `profile`, `run_dir`, `command` and `cwd`."""


def mark(kind: str, content: str) -> None:
    """Write a mark if this process belongs to `sf exec`; its folder may be on another machine."""
    place = os.environ.get(VARIABLE)
    if place:
        with suppress(OSError):
            replace_file(Path(f"{place}.{kind}"), content.encode("utf-8", "backslashreplace"))
