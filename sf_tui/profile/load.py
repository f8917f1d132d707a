"""From a profile's name or file to a checked, resolved profile, or one error that tells it all.

Knows the order of the steps: read, override, check types, check what spans keys, fill in. Opens
no model and no data.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli
from pydantic import ValidationError

from sf_tui.errors import ProfileError
from sf_tui.home import user_path
from sf_tui.profile.actions import lay_over_defaults
from sf_tui.profile.builtin import builtin_profiles
from sf_tui.profile.check_tasks import task_notes
from sf_tui.profile.check_train import overlay_problems, strategy_notes
from sf_tui.profile.checks import check_files, check_profile
from sf_tui.profile.locate import locate_keys
from sf_tui.profile.nearest import nearest_name, nearest_names
from sf_tui.profile.override import apply_overrides
from sf_tui.profile.paths import make_paths_absolute
from sf_tui.profile.problems import Origin, raise_problems
from sf_tui.profile.resolve import resolve_profile
from sf_tui.profile.schema import Profile, current_schema
from sf_tui.profile.translate import problems_of

PROFILE_SUFFIX = ".toml"


def load_profile(
    reference: str | Path,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    *,
    files: bool = False,
) -> Profile:
    """Load a profile.

    Args:
        reference: the path of a TOML file, or the name of a built-in profile.
        overrides: `table.key=value` texts, laid over it in order; relative paths in them start
            at the current directory.
        seed: replaces the profile's own.
        files: check too that the files and directories it names are there.

    Raises:
        ProfileError: every mistake in it, each with file, line and key.
    """
    path = find_profile(reference)
    return parse_profile(
        _read(path),
        name=str(path),
        base_dir=path.absolute().parent,
        overrides=overrides,
        seed=seed,
        files=files,
    )


def parse_profile(
    text: str,
    *,
    name: str = "profile.toml",
    base_dir: Path | None = None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    files: bool = False,
) -> Profile:
    """Load a profile from its text.

    Args:
        text: TOML.
        name: what errors call the file.
        base_dir: where relative paths start; default: the current directory.
        overrides: as in `load_profile`.
        seed: as in `load_profile`.
        files: as in `load_profile`.

    Raises:
        ProfileError: every mistake in it, each with file, line and key.
    """
    raw = _parse(text, name)
    base_dir = base_dir or Path.cwd()
    make_paths_absolute(raw, base_dir)
    origin = Origin(name, locate_keys(text), raw)
    apply_overrides(origin, raw, overrides)
    if seed is not None:
        raw["seed"] = seed
        origin.lines.forget(("seed",))
        origin.options[("seed",)] = "--seed"
    whole = {**raw, "actions": lay_over_defaults(raw.get("actions"))}
    profile = _validate(origin, whole)
    problems = check_profile(profile, origin)
    if files and not problems:
        problems = check_files(profile)
    raise_problems(origin, problems)
    notes = [*task_notes(profile, origin), *strategy_notes(profile)]
    profile = resolve_profile(profile)
    profile._base_dir = base_dir
    profile._notes = tuple(notes)
    return profile


def find_profile(reference: str | Path) -> Path:
    """Return the file of a profile, given as a path or as the name of a built-in one.

    Raises:
        ProfileError: there is no such file or name; the hint has the nearest.
    """
    path = user_path(reference) if isinstance(reference, str) else reference
    known = builtin_profiles()
    if isinstance(reference, str):
        if not reference.strip() or "\0" in reference:
            raise ProfileError(f"{reference!r} is no profile", "see `sf profile list`")
        if reference in known:
            return known[reference]
    kind = _kind_of(path)
    if kind == "directory":
        inside = path / "profile.toml"
        raise ProfileError(
            f"{path}: is a directory, not a profile",
            f"did you mean {inside}?"
            if _kind_of(inside) == "file"
            else "name the .toml file in it",
        )
    if kind == "file":
        return path
    is_path = isinstance(reference, Path) or os.sep in reference or path.suffix == PROFILE_SUFFIX
    if is_path:
        raise ProfileError(f"{path}: there is no such file", _missing_file_hint(path, known))
    near = nearest_names(str(reference), known)
    names = " or ".join(f"'{name}'" for name in near)
    hint = f"did you mean {names}? " if near else ""
    raise ProfileError(
        f"no built-in profile is named '{reference}', and there is no such file",
        f"{hint}`sf profile list` shows the built-in ones",
    )


def _kind_of(path: Path) -> str:
    try:
        return "directory" if stat.S_ISDIR(path.stat().st_mode) else "file"
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ProfileError:
    reason = (error.strerror or str(error)).lower()
    return ProfileError(f"{path}: can't be read: {reason}", "check its name and permissions")


def _missing_file_hint(path: Path, known: dict[str, Path]) -> str:
    if path.stem in known:
        return f"the built-in profile goes by its name: {path.stem}"
    if not path.parent.is_dir():
        return f"there is no directory {path.parent} either"
    near = nearest_name(path.name, [one.name for one in path.parent.glob("*.toml")])
    return (
        f"did you mean {path.parent / near}?"
        if near
        else "`sf profile init` writes a new one, `sf profile list` shows the built-in ones"
    )


def _is_of_the_shell(path: Path, mode: int) -> bool:
    ends = stat.S_ISFIFO(mode) or path.name == "stdin"
    return ends and (path.is_relative_to("/dev") or path.is_relative_to("/proc"))


def _read(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        # A pipe of the shell's, as in `sf run <(…)`, has a writer; a device has no end.
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or _is_of_the_shell(path, mode)):
            raise ProfileError(
                f"{path}: not a file but a device or a FIFO", "put the profile's text there"
            )
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        # Editors on Windows put a byte order mark before the first line.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ProfileError(
            f"{path}:{line}: not UTF-8 text (byte 0x{content[error.start]:02x})",
            "save the file as UTF-8",
        ) from error


def _parse(text: str, name: str) -> dict[str, Any]:
    if not text.strip():
        raise ProfileError(f"{name}:1: the profile is empty", "`sf profile init` writes a new one")
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        twice = "twice" in error.msg or "overwrite" in error.msg
        raise ProfileError(
            f"{name}:{error.lineno}: column {error.colno}: not valid TOML: {error.msg}",
            "the same key or table stands further up already; keep one of them"
            if twice
            else "texts need quotes, a list [ ], a table's name [ ] on a line of its own",
        ) from error
    except RecursionError as error:
        raise ProfileError(f"{name}:1: {error}", "nest its tables less deeply") from error


def _validate(origin: Origin, whole: dict[str, Any]) -> Profile:
    schema = current_schema()
    problems = overlay_problems(whole)
    try:
        profile = schema.model_validate(whole)
    except ValidationError as error:
        problems = [*problems_of(error.errors(include_url=False), whole), *problems]
        raise_problems(origin, problems)
        raise
    raise_problems(origin, problems)
    return profile
