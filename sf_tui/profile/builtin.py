"""Where the profiles and starter models that come with sf are.

A wheel carries them inside the package, a checkout (or an editable install) has them at its top
level. Knows names and places only; reads none of the files.
"""

from __future__ import annotations

from pathlib import Path

import sf_tui
from sf_tui.errors import ProfileError, did_you_mean

STARTER_PREFIX = "starter:"


def package_directory() -> Path:
    """Return the folder of the package `sf_tui`."""
    return Path(sf_tui.__file__).resolve().parent


def profiles_directory(package: Path | None = None) -> Path | None:
    """Return the folder of the built-in profiles, or None if this installation has none.

    Args:
        package: the folder of the package; default: the one that runs.
    """
    package = package or package_directory()
    # Inside the package first: beside an installed package `profiles` may be anybody's.
    for folder in (package / "_profiles", package.parent / "profiles"):
        if folder.is_dir():
            return folder
    return None


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
        package: the folder of the package; default: the one that runs.

    Raises:
        ProfileError: no starter goes by that name; the hint has the nearest.
    """
    bare = name.removeprefix(STARTER_PREFIX)
    known = starters(package)
    if bare in known:
        return known[bare]
    raise ProfileError(f"no starter model is named '{bare}'", starter_hint(bare, known))


def starter_hint(name: str, known: dict[str, Path]) -> str:
    """Return what to do about a starter that doesn't exist."""
    if not known:
        return "this installation has no starter models; reinstall sf"
    return did_you_mean(name, known, "starters")
