"""Models that come as a file of an installed Python package: `package:NAME/FILE`.

Finds the file without importing the package; opens nothing.
"""

from __future__ import annotations

import re
from importlib.machinery import PathFinder
from pathlib import Path

from sf_tui.errors import nearest_name

PACKAGE_PREFIX = "package:"

_FORM = re.compile(r"package:(?P<name>[A-Za-z_][A-Za-z0-9_]*)/(?P<file>[^/\\\0][^\\\0]*)")


def is_package_source(source: str) -> bool:
    """Tell whether a source is written as one, right or wrong."""
    return source.startswith(PACKAGE_PREFIX)


def is_well_formed(source: str) -> bool:
    """Tell whether a source names a package and a file inside it."""
    found = _FORM.fullmatch(source)
    return found is not None and ".." not in Path(found["file"]).parts


def package_file(source: str) -> Path | None:
    """Return the file that a source names, or None where it isn't installed."""
    for folder in _folders(source):
        file = folder / _parts(source)[1]
        if file.is_file():
            return file
    return None


def package_hint(source: str) -> str:
    """Return what to do about a source whose file isn't there."""
    name, file = _parts(source)
    folders = _folders(source)
    if not folders:
        return f"install the package first, e.g. pip install {name.replace('_', '-')}"
    names = [entry.name for folder in folders for entry in folder.iterdir()]
    near = nearest_name(file, names)
    return f"did you mean '{PACKAGE_PREFIX}{name}/{near}'?" if near else f"look into {folders[0]}"


def _parts(source: str) -> tuple[str, str]:
    found = _FORM.fullmatch(source)
    return (found["name"], found["file"]) if found else ("", "")


def _folders(source: str) -> list[Path]:
    if not is_well_formed(source):
        return []
    # The finder of sys.path alone: it runs nothing of the package.
    spec = PathFinder.find_spec(_parts(source)[0])
    return [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
