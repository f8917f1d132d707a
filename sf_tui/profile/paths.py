"""Which values of a profile are paths, and where relative ones start.

Knows the keys that may hold a path and what a path looks like beside a hub or datasets id; opens
no file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sf_tui.errors import nearest_name
from sf_tui.profile.locate import KeyPath
from sf_tui.profile.packages import is_package_source, package_file

# What `sf_tui.tasks` reads, and what people try to give it.
DATA_SUFFIXES = (
    *(".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".pq", ".gz"),
    *(".txt", ".xlsx", ".arrow", ".zip"),
)
MODEL_SUFFIXES = (".gguf",)


def looks_like_path(value: str, base: Path, suffixes: tuple[str, ...]) -> bool:
    """Tell whether a value names a file or directory rather than something by its id.

    It does when it starts like a path, has more slashes than an id, ends like a file of ours, or
    is there.
    """
    if "\0" in value or "://" in value or not value.strip():
        return False
    if value.startswith(("/", ".", "~")) or value.count("/") > 1 or "\\" in value:
        return True
    return value.lower().endswith(suffixes) or os.path.lexists(base / value)


def absolute(value: str, base: Path) -> str:
    """Return a path that doesn't depend on where one stands."""
    return os.path.abspath(base / os.path.expanduser(value))  # noqa: PTH100, PTH111  keeps links


def is_missing(value: object) -> bool:
    """Tell whether a value is an absolute path at which there is nothing."""
    return isinstance(value, str) and os.path.isabs(value) and not os.path.exists(value)  # noqa: PTH110, PTH117  never raise


def make_paths_absolute(raw: dict[str, Any], base: Path, within: KeyPath = ()) -> None:
    """Make the paths in a raw profile absolute, in place.

    Args:
        raw: the profile as plain tables; may be malformed.
        base: the folder where relative paths start.
        within: only what stands at or below this key.
    """
    for path, table in _path_keys(raw):
        if path[: len(within)] != within and within[: len(path)] != path:
            continue
        key = path[-1]
        value = table.get(key)
        if not isinstance(value, str) or _is_special(path, value):
            continue
        if path[0] == "model" and is_package_source(value):
            # What isn't installed stays as it is written; `check_model` tells of it.
            table[key] = str(package_file(value) or value)
            continue
        suffixes = MODEL_SUFFIXES if path[0] == "model" else DATA_SUFFIXES
        if (key == "held_out" and value and "\0" not in value) or looks_like_path(
            value, base, suffixes
        ):
            table[key] = absolute(value, base)


def _is_special(path: KeyPath, value: str) -> bool:
    if path == ("model", "source"):
        return value == "random" or value.startswith("starter:")
    if path == ("model", "tokenizer"):
        return value == "biography"
    return value.startswith("biography:")


def _path_keys(raw: dict[str, Any]) -> Iterator[tuple[KeyPath, dict[Any, Any]]]:
    model = raw.get("model")
    if isinstance(model, dict):
        yield ("model", "source"), model
        yield ("model", "tokenizer"), model
    tasks = raw.get("tasks")
    for place, task in enumerate(tasks if isinstance(tasks, list) else []):
        if isinstance(task, dict):
            yield ("tasks", place, "data"), task
            yield ("tasks", place, "held_out"), task
    diagnosis = raw.get("diagnose")
    if isinstance(diagnosis, dict):
        yield ("diagnose", "control"), diagnosis
        yield ("diagnose", "unrelated"), diagnosis


def missing_hint(value: object) -> str:
    """Return what to do about a path that isn't there: the nearest name beside it, if any."""
    path = Path(str(value))
    # `~name` of somebody whom this machine doesn't know was taken for a folder's name.
    tilde = next((part for part in path.parts if part.startswith("~")), "")
    if tilde and not any(up.name == tilde and os.path.lexists(up) for up in (path, *path.parents)):
        return f"there is no user '{tilde[1:]}' on this machine, nor a folder named {tilde}"
    # Not pathlib's, which raises where a name is too long.
    if os.path.isdir(path.parent):  # noqa: PTH112
        near = nearest_name(path.name, _names_in(path.parent))
        if near is not None:
            return f"did you mean {path.parent / near}?"
    return (
        "correct the path; a relative one starts at the profile's folder, and after --set where "
        "you are"
    )


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  names, not paths
    except OSError:
        # A hint is all that is lost.
        return []
