"""Where models, data and profiles come from: built-in ones, Python packages, paths.

In a wheel the built-in profiles and starters are inside the package, in a checkout at the top
level. Knows which keys may hold a path and how a path differs from a hub or datasets id. Finds a
package's file without importing the package. Reads no file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import sf_tui
from sf_tui.errors import ProfileError, did_you_mean, nearest_name
from sf_tui.profile.locate import KeyPath
from sf_tui.profile.names import HOST_DATA

STARTER_PREFIX = "starter:"


def package_directory() -> Path:
    """Return the folder of the package `sf_tui`."""
    return Path(sf_tui.__file__).resolve().parent


def profiles_directory(package: Path | None = None) -> Path | None:
    """Return the folder of the built-in profiles, or None if this installation has none.

    Args:
        package: the folder of the package; default: the running one.
    """
    package = package or package_directory()
    # Inside the package first: `profiles` beside an installed package may be unrelated.
    for folder in (package / "_profiles", package.parent / "profiles"):
        if folder.is_dir():
            return folder
    return None


def examples_directory(package: Path | None = None) -> Path:
    """Return the folder of the examples to copy: a SLURM script and a profile for a local model."""
    folder = profiles_directory(package)
    assert folder is not None, "the examples are part of every installation"
    return folder / "examples"


def builtin_profiles(package: Path | None = None) -> dict[str, Path]:
    """Return the built-in profiles' files by name, sorted."""
    folder = profiles_directory(package)
    if folder is None:
        return {}
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def starters(package: Path | None = None) -> dict[str, Path]:
    """Return the starter models' directories by name, sorted."""
    folder = profiles_directory(package)
    if folder is None:
        return {}
    return {path.name: path for path in sorted(folder.glob("starters/*")) if path.is_dir()}


def starter_directory(name: str, package: Path | None = None) -> Path:
    """Return the directory of a starter model.

    Args:
        name: the starter's name, with or without "starter:" before it.
        package: the folder of the package; default: the running one.

    Raises:
        ProfileError: there is no such starter; the hint gives the nearest.
    """
    bare = name.removeprefix(STARTER_PREFIX)
    known = starters(package)
    if bare in known:
        return known[bare]
    raise ProfileError(f"no starter model is named '{bare}'", starter_hint(bare, known))


def starter_hint(name: str, known: dict[str, Path]) -> str:
    """Return the hint for an unknown starter."""
    if not known:
        return "this installation has no starter models; reinstall sf"
    return did_you_mean(name, known, "starters")


PACKAGE_PREFIX = "package:"

_FORM = re.compile(r"package:(?P<name>[A-Za-z_][A-Za-z0-9_]*)/(?P<file>[^/\\\0][^\\\0]*)")


def is_package_source(source: str) -> bool:
    """Return whether a source starts with `package:`, well-formed or not."""
    return source.startswith(PACKAGE_PREFIX)


def is_well_formed(source: str) -> bool:
    """Return whether a source names a package and a file inside it."""
    found = _FORM.fullmatch(source)
    return found is not None and ".." not in Path(found["file"]).parts


def package_file(source: str) -> Path | None:
    """Return the file that a source names, or None if it isn't installed."""
    for folder in _folders(source):
        file = folder / _parts(source)[1]
        if file.is_file():
            return file
    return None


def package_hint(source: str) -> str:
    """Return the hint for a source whose file doesn't exist."""
    name, file = _parts(source)
    folders = _folders(source)
    if not folders:
        return f"install the package first, e.g. pip install {name.replace('_', '-')}"
    names = [entry.name for folder in folders for entry in folder.iterdir()]
    near = nearest_name(file, names)
    return f"did you mean '{PACKAGE_PREFIX}{name}/{near}'?" if near else f"look in {folders[0]}"


def _parts(source: str) -> tuple[str, str]:
    found = _FORM.fullmatch(source)
    return (found["name"], found["file"]) if found else ("", "")


def _folders(source: str) -> list[Path]:
    if not is_well_formed(source):
        return []
    # Only the finder for sys.path: it runs none of the package's code.
    spec = PathFinder.find_spec(_parts(source)[0])
    return [Path(place) for place in (spec and spec.submodule_search_locations) or ()]


# The formats that `sf_tui.tasks` reads, and others that users may try.
DATA_SUFFIXES = (
    *(".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".pq", ".gz"),
    *(".txt", ".xlsx", ".arrow", ".zip"),
)
MODEL_SUFFIXES = (".gguf",)


def looks_like_path(value: str, base: Path, suffixes: tuple[str, ...]) -> bool:
    """Return whether a value is a path rather than a hub or datasets id.

    It is one if it starts like a path, has more slashes than an id, has a known suffix, or exists.
    """
    if "\0" in value or "://" in value or not value.strip():
        return False
    if value.startswith(("/", ".", "~")) or value.count("/") > 1 or "\\" in value:
        return True
    return value.lower().endswith(suffixes) or os.path.lexists(base / value)


def absolute(value: str, base: Path) -> str:
    """Return an absolute path, with `~` expanded and links kept."""
    return os.path.abspath(base / os.path.expanduser(value))  # noqa: PTH100, PTH111  keeps links


def is_missing(value: object) -> bool:
    """Return whether a value is an absolute path that doesn't exist."""
    return isinstance(value, str) and os.path.isabs(value) and not os.path.exists(value)  # noqa: PTH110, PTH117  never raise


def make_paths_absolute(raw: dict[str, Any], base: Path, within: KeyPath = ()) -> None:
    """Make the paths in a raw profile absolute, in place.

    Args:
        raw: the profile as plain tables; may be malformed.
        base: the folder where relative paths start.
        within: change only values at or below this key.
    """
    for path, table in _path_keys(raw):
        if path[: len(within)] != within and within[: len(path)] != path:
            continue
        key = path[-1]
        value = table.get(key)
        if not isinstance(value, str) or _is_special(path, value):
            continue
        if path[0] == "model" and is_package_source(value):
            # An uninstalled file is kept as written; `check_model` reports it.
            table[key] = str(package_file(value) or value)
            continue
        suffixes = MODEL_SUFFIXES if path[0] == "model" else DATA_SUFFIXES
        is_path = key == "held_out" or path == ("adapter", "source")
        if (is_path and value and "\0" not in value) or looks_like_path(value, base, suffixes):
            table[key] = absolute(value, base)


def _is_special(path: KeyPath, value: str) -> bool:
    if path == ("model", "source"):
        return value == "random" or value.startswith("starter:")
    if path == ("model", "tokenizer"):
        return value == "biography"
    return value.startswith(("biography:", HOST_DATA))


def _path_keys(raw: dict[str, Any]) -> Iterator[tuple[KeyPath, dict[Any, Any]]]:
    model = raw.get("model")
    if isinstance(model, dict):
        yield ("model", "source"), model
        yield ("model", "tokenizer"), model
    adapter = raw.get("adapter")
    if isinstance(adapter, dict):
        yield ("adapter", "source"), adapter
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
    """Return the hint for a missing path: the nearest name beside it, if any."""
    path = Path(str(value))
    # `~name` with an unknown user was read as a folder name.
    tilde = next((part for part in path.parts if part.startswith("~")), "")
    if tilde and not any(up.name == tilde and os.path.lexists(up) for up in (path, *path.parents)):
        return f"there is no user '{tilde[1:]}' on this machine, nor a folder named {tilde}"
    # Not pathlib, which raises if a name is too long.
    if os.path.isdir(path.parent):  # noqa: PTH112
        near = nearest_name(path.name, _names_in(path.parent))
        if near is not None:
            return f"did you mean {path.parent / near}?"
    return (
        "correct the path; a relative one starts at the profile's folder, after --set at the "
        "current directory"
    )


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  names, not paths
    except OSError:
        # Only the hint is lost.
        return []
