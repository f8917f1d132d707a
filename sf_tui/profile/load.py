"""Load a profile by name or file: checked and resolved, or one error that lists every mistake.

Fixes the order of the steps: read, override, check types, check rules that span keys, fill in
defaults that depend on other keys. Opens no model and no data.
"""

from __future__ import annotations

import copy
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli
from pydantic import ValidationError

from sf_tui.errors import ProfileError, nearest_name, nearest_names
from sf_tui.home import user_path
from sf_tui.masking import has_url_login
from sf_tui.profile.actions import check_actions, lay_over_defaults
from sf_tui.profile.adapter_schema import adapter_files, check_adapter
from sf_tui.profile.check_beside import check_beside
from sf_tui.profile.check_compute import check_compute
from sf_tui.profile.check_data import (
    DATA_KEYS,
    check_biography,
    check_diagnosis,
    check_model,
    check_tasks,
    diagnosis_files,
    model_files,
    task_files,
    task_notes,
    uses_biography,
)
from sf_tui.profile.check_host import check_host
from sf_tui.profile.check_rules import check_guard, check_rules
from sf_tui.profile.check_train import (
    check_anchor,
    check_replay_stage,
    check_strategies,
    check_train_tables,
    overlay_problems,
    strategy_notes,
)
from sf_tui.profile.locate import KeyPath, locate_keys
from sf_tui.profile.names import BIOGRAPHY_TOKENIZER, RANDOM_MODEL
from sf_tui.profile.override import apply_overrides
from sf_tui.profile.problems import Origin, Problem, raise_problems
from sf_tui.profile.schema import BiographySettings, Profile, current_schema
from sf_tui.profile.sources import builtin_profiles, make_paths_absolute
from sf_tui.profile.train_schema import DEFAULT_STEPS
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
        overrides: `table.key=value` texts, applied in order; relative paths in them start at
            the current directory.
        seed: replaces the profile's seed.
        files: also check that the files and directories it names exist.

    Raises:
        ProfileError: lists every mistake with file, line and key.
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
        name: the file's name in errors.
        base_dir: the folder where relative paths start; default: the current directory.
        overrides: as in `load_profile`.
        seed: as in `load_profile`.
        files: as in `load_profile`.

    Raises:
        ProfileError: lists every mistake with file, line and key.
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
    profile = _validate(origin, files=files)
    raise_problems(origin, _mistakes(profile, origin, files=files))
    notes = [*task_notes(profile, origin), *strategy_notes(profile)]
    profile = resolve_profile(profile)
    profile._base_dir = base_dir
    profile._notes = tuple(notes)
    return profile


def find_profile(reference: str | Path) -> Path:
    """Return the file of a profile, given by path or as the name of a built-in one.

    Raises:
        ProfileError: there is no such file or name; the hint gives the nearest.
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
        return f"the built-in profile is given by its name: {path.stem}"
    if not path.parent.is_dir():
        return f"there is no directory {path.parent} either"
    near = nearest_name(path.name, [one.name for one in path.parent.glob("*.toml")])
    return (
        f"did you mean {path.parent / near}?"
        if near
        else "`sf profile init` writes a new one, `sf profile list` shows the built-in ones"
    )


def _is_shell_pipe(path: Path, mode: int) -> bool:
    ends = stat.S_ISFIFO(mode) or path.name == "stdin"
    return ends and (path.is_relative_to("/dev") or path.is_relative_to("/proc"))


def _read(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        # The shell's pipe in `sf run <(…)` has a writer; a device has no end.
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or _is_shell_pipe(path, mode)):
            raise ProfileError(
                f"{path}: not a file but a device or a FIFO", "name a file that holds the profile"
            )
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        # Windows editors put a byte order mark before the first line.
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
            "the same key or table is already further up; keep one of them"
            if twice
            else "texts need quotes, lists [ ], and a table's name [ ] on its own line",
        ) from error
    except RecursionError as error:
        raise ProfileError(f"{name}:1: {error}", "nest its tables less deeply") from error


def _with_actions(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {**raw, "actions": lay_over_defaults(raw.get("actions"))}


def _validate(origin: Origin, *, files: bool) -> Profile:
    schema, whole = current_schema(), _with_actions(origin.raw)
    problems = overlay_problems(whole)
    try:
        profile = schema.model_validate(whole)
    except ValidationError as error:
        problems = [*problems_of(error.errors(include_url=False), whole), *problems]
        problems += _mistakes_elsewhere(origin, problems, files=files)
        raise_problems(origin, problems)
        raise
    raise_problems(origin, problems)
    return profile


def _mistakes_elsewhere(
    origin: Origin, problems: Sequence[Problem], *, files: bool
) -> list[Problem]:
    """Return what is wrong in the tables without these mistakes, as far as can be told.

    The keys with mistakes take their defaults meanwhile, so nothing is said about their own tables.
    """
    tables = {_own_table(problem.path) for problem in problems}
    rest = copy.deepcopy(origin.raw)
    for problem in problems:
        if not _forget(rest, problem.path):
            return []
    try:
        profile = current_schema().model_validate(_with_actions(rest))
    except ValidationError:
        return []
    found = _mistakes(profile, replace(origin, raw=rest), files=files)
    return [one for one in found if _own_table(one.path) not in tables]


def _own_table(path: KeyPath) -> KeyPath:
    """Return the table of a key: the outermost one, or the element of a list of tables."""
    return path[:2] if len(path) > 1 and isinstance(path[1], int) else path[:1]


def _forget(raw: Any, path: KeyPath) -> bool:
    """Take a key out of plain tables; return whether it was there, as the key of a table."""
    for part in path[:-1]:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return False
    return isinstance(raw, dict) and raw.pop(path[-1], raw) is not raw


def _mistakes(profile: Profile, origin: Origin, *, files: bool) -> list[Problem]:
    found = check_profile(profile, origin)
    return found + check_files(profile) if files else found


def check_profile(profile: Profile, origin: Origin) -> list[Problem]:
    """Return the mistakes that span several keys of a profile whose types are right."""
    return [
        *check_logins(profile),
        *check_model(profile, origin),
        *check_adapter(
            profile.adapter,
            origin.raw.get("adapter"),
            profile.model.source,
            _strategies(profile),
        ),
        *check_tasks(profile, origin),
        *check_host(profile, origin),
        *check_beside(profile),
        *check_biography(profile),
        *check_train_tables(profile, origin),
        *check_compute(profile, origin),
        *check_replay_stage(profile, origin),
        *check_strategies(profile, origin),
        *check_anchor(profile),
        *check_diagnosis(profile, origin),
        *check_actions(profile, origin),
        *check_rules(profile, origin),
        *check_guard(profile),
    ]


def _strategies(profile: Profile) -> set[str]:
    own = [task.train.get("strategy") for task in profile.tasks]
    return {profile.train.strategy, *(name for name in own if isinstance(name, str))}


def check_logins(profile: Profile) -> Iterator[Problem]:
    """Find sources that contain a login: it would be stored and shown with the profile."""
    places: list[tuple[KeyPath, object]] = [
        (("model", key), getattr(profile.model, key)) for key in ("source", "tokenizer", "revision")
    ]
    for place, task in enumerate(profile.tasks):
        places += [
            (("tasks", place, key), getattr(task, key))
            for key in ("data", "held_out", "split", "subset")
        ]
    for key in DATA_KEYS:
        places.append((("diagnose", key), getattr(profile.diagnose, key)))
    for path, value in places:
        if isinstance(value, str) and has_url_login(value):
            yield Problem(
                path,
                f"{path[-1]}: a URL with a user name or password in it",
                "the profile is copied into the run directory: remove the login; for the Hub "
                "use `hf auth login`, else download the file",
            )


def check_files(profile: Profile) -> list[Problem]:
    """Return the files and directories that a profile names and that don't exist."""
    return [
        *model_files(profile),
        *adapter_files(profile.adapter),
        *task_files(profile),
        *diagnosis_files(profile),
    ]


def resolve_profile(profile: Profile) -> Profile:
    """Fill in the defaults that depend on other keys; the profile has no mistakes."""
    changes: dict[str, Any] = {
        # Only the first task can be known beforehand; all others are trained.
        "tasks": [
            task.model_copy(
                update={
                    "learn": task.learn or place > 0
                    if profile.host is None
                    else place == len(profile.tasks) - 1
                }
            )
            for place, task in enumerate(profile.tasks)
        ]
    }
    if profile.train.steps is None and profile.train.epochs is None:
        changes["train"] = profile.train.model_copy(update={"steps": DEFAULT_STEPS})
    watched = profile.watched_tasks()
    if profile.replay_stage.task is None and watched:
        changes["replay_stage"] = profile.replay_stage.model_copy(update={"task": watched[0]})
    if profile.model.source == RANDOM_MODEL and profile.model.tokenizer is None:
        # check_model ensures that such a profile has biography tasks only.
        changes["model"] = profile.model.model_copy(update={"tokenizer": BIOGRAPHY_TOKENIZER})
    elif not uses_biography(profile):
        # Dropped, so that the note on an ignored table isn't repeated on every load.
        changes["biography"] = BiographySettings()
    return profile.model_copy(update=changes)
