"""What a killed worker left in its run directory under hidden names; the next one clears it up.

Only for whoever holds the run's lock: without it, what looks left over may be somebody's work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sf_tui.errors import RunError
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import finish_exchange, remove

# Whatever file `replace_file` was writing aside: run.json, inputs.json, heartbeat, a repaired log.
_TOP = re.compile(r"\..+\.\d+\.writing")
_UNFINISHED = re.compile(r"\.step-\d{6,}(~\d+)?\.(writing|deleting)")
_REPLACED = re.compile(r"\.(step-\d{6,})\.replaced")


def clear_leftovers(run: RunDirectory) -> None:
    """Delete what was never finished and put back what was being replaced.

    Raises:
        RunError: something can't be deleted.
    """
    try:
        for entry in _entries(run.path):
            if _TOP.fullmatch(entry.name):
                remove(entry)
        remove(run.path / ".model.writing")
        finish_exchange(run.model, run.path / ".model.replaced")
        for entry in _entries_below(run.checkpoints):
            replaced = _REPLACED.fullmatch(entry.name)
            if replaced:
                finish_exchange(entry.with_name(replaced[1]), entry)
            elif _UNFINISHED.fullmatch(entry.name):
                remove(entry)
        for entry in _entries_below(run.path / "neighbors"):
            # Its files are written aside by this program and by the safetensors library.
            if entry.name.startswith("."):
                remove(entry)
    except OSError as error:
        raise RunError(
            f"{error.filename or run.path}: what an earlier worker left can't be cleared up: "
            f"{error.strerror}",
            "check the owner of the run directory and its disk",
        ) from error


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _entries_below(folder: Path) -> Iterator[Path]:
    for stage in _entries(folder):
        yield from _entries(stage)
