"""Who trains a run, and where another program writes: read from the run's profile, without it all.

Every reader may ask, also one of a damaged run: what can't be read names no host.
"""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import read_regular


def host_name(run: RunDirectory) -> str:
    """Return the program that trains a run; empty if `sf` does."""
    name = _host(run).get("name")
    return name if isinstance(name, str) else ""


def host_output(run: RunDirectory) -> Path | None:
    """Return the folder that the program writes its own checkpoints to; None if it has none."""
    place = _host(run).get("output_dir")
    return Path(place) if isinstance(place, str) and "\0" not in place else None


def way_to_resume(run: RunDirectory, name: str | None = None) -> str:
    """Return the command that continues a run, or whose own way to resume does.

    Args:
        run: the run.
        name: its name on the command line; None for its id.
    """
    host = host_name(run)
    return f"{host}'s own resume" if host else f"sf resume {name or run.id}"


def way_on(run: RunDirectory, name: str | None = None) -> str:
    """Return what continues a run, as a part of a sentence.

    Args:
        run: the run.
        name: as for `way_to_resume`.
    """
    way = way_to_resume(run, name)
    return f"{way} continues it" if host_name(run) else f"`{way}` continues it"


def resume_by_path(folder: Path) -> str:
    """Return what continues a run, for hints: its command with the run's path, or its host's way.

    Args:
        folder: the run's directory.
    """
    run = RunDirectory(folder)
    way = way_to_resume(run, shlex.quote(str(folder)))
    return way if host_name(run) else f"`{way}`"


def is_inside(path: Path, run: RunDirectory) -> bool:
    """Return whether a path leads into a run directory, through links too."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(run.path))


def _host(run: RunDirectory) -> Mapping[str, Any]:
    try:
        written = run.profile.stat().st_mtime_ns
    except (OSError, ValueError):
        return {}
    return _read(run.profile, written)


@lru_cache(maxsize=256)
def _read(profile: Path, written: int) -> Mapping[str, Any]:  # noqa: ARG001  part of the key
    try:
        host = tomllib.loads(read_regular(profile).decode()).get("host")
    except (OSError, ValueError):
        # The reader that needs the profile reports it.
        return {}
    return host if isinstance(host, dict) else {}
