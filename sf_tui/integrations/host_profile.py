"""The resolved profile of a run that another program trains.

The user's file keeps its lines, so that an error in it names them; the tables that follow from the
host are written behind it. Opens no model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from sf_tui.errors import DataError, ProfileError, UsageError
from sf_tui.profile import Profile, parse_profile
from sf_tui.profile.load import find_profile
from sf_tui.profile.values import toml_value
from sf_tui.tasks.loaded_rows import load_examples

NEW, NEIGHBORS = "new", "neighbors"
"""Names of the task that the host trains, and of the start model's answers to neighbor prompts."""

OLD = "old"

ROWS = {NEW: "host:new.jsonl", NEIGHBORS: "host:neighbors.jsonl"}

_OF_THE_HOST = ("model", "adapter", "replay_stage", "host", "checkpoint", "biography")

_MOST_SCORED = 512
_SAFE_EXAMPLES = 10

Old = str | Path | Sequence[str | Path] | Mapping[str, str | Path] | None
"""What a user gives as old examples: a file, several, or files by name of their task."""


@dataclass(frozen=True)
class Settings:
    """What the user wants of a run: old examples, and a profile without model and tasks."""

    old: Mapping[str, Path]
    profile: Path | None = None
    name: str | None = None

    @classmethod
    def read(cls, old: Old, profile: str | Path | None = None, name: str | None = None) -> Settings:
        """Check what a user gives, before any training begins.

        Raises:
            UsageError: a file does not exist.
            ProfileError: the profile has mistakes.
        """
        named = _named(old)
        for task, path in named.items():
            if not path.exists():
                raise UsageError(
                    f"old examples '{task}': there is no file {path}", "check the path"
                )
        settings = cls(named, None if profile is None else find_profile(profile), name)
        # Every mistake is reported now: later ones would only turn the watching off.
        host_profile(
            settings, {"name": "host"}, {}, "/model", new=ROWS[NEW], neighbors=not settings.has_old
        )
        return settings

    @property
    def has_old(self) -> bool:
        """Whether old examples are given, by name or as `[[tasks]]` of the profile."""
        if self.old or self.profile is None:
            return bool(self.old)
        text = self.profile.read_text(encoding="utf-8-sig", errors="replace")
        return re.search(r"(?m)^\s*\[\[\s*tasks\s*\]\]", text) is not None


def host_profile(
    settings: Settings,
    host: Mapping[str, Any],
    train: Mapping[str, Any],
    source: str,
    *,
    new: str,
    neighbors: bool = False,
    held_out: Mapping[str, int] | None = None,
    adapter: Mapping[str, Any] | None = None,
    surveys: bool = True,
) -> Profile:
    """Return the resolved profile of a run.

    Args:
        settings: the user's.
        host: the keys of `[host]`.
        train: the keys of `[train]` that the host sets.
        source: where the model came from.
        new: `data` of the task that the host trains.
        neighbors: whether the start model's answers to neighbor prompts are a task.
        held_out: rows of each old task that are scored; the others are safe examples.
        adapter: the keys of `[adapter]`.
        surveys: whether the start model may be asked for the tasks at risk.

    Raises:
        ProfileError: the user's profile has mistakes, or tables that belong to the host.
    """
    text, place, base = "", "profile.toml", Path.cwd()
    if settings.profile is not None:
        text = settings.profile.read_text(encoding="utf-8-sig")
        place, base = str(settings.profile), settings.profile.absolute().parent
        _refuse_tables(text, place)
    tasks: list[dict[str, Any]] = [
        {"name": name, "data": str(path)}
        | ({"held_out": held_out[name]} if held_out and name in held_out else {})
        for name, path in settings.old.items()
    ]
    if neighbors:
        tasks.append({"name": NEIGHBORS, "data": ROWS[NEIGHBORS]})
    tasks.append({"name": NEW, "data": new})
    made = tomlkit.dumps(
        {
            "model": {"source": source},
            **({"adapter": dict(adapter)} if adapter else {}),
            "tasks": tasks,
            # The host writes checkpoints; these are the start's and the end's weights only.
            "checkpoint": {"every": 10**6},
            "host": {key: value for key, value in host.items() if value},
        }
    )
    facts = {"warmup_steps": 0, **train}
    overrides = [f"train.{key}={toml_value(value)}" for key, value in facts.items()]
    if not surveys:
        overrides.append("neighbors.survey_budget=0")
    named = re.search(r"(?m)^\s*name\s*=", text.partition("\n[")[0])
    if settings.name is not None or not named:
        overrides.append(f'name="{_plain(settings.name or str(host["name"]))}"')
    return parse_profile(
        f"{text}\n{made}" if text else made, name=place, base_dir=base, overrides=overrides
    )


def scored_rows(path: Path, most_safe: int = _SAFE_EXAMPLES) -> int:
    """Return how many rows of an old task are scored: nothing trains on them in such a run.

    Raises:
        DataError: the rows can't be read.
    """
    count = len(load_examples(str(path), path.parent).examples)
    if count < 2:
        raise DataError(f"{path}: {count} row can't be scored", "give at least two old examples")
    return min(max(count - max(most_safe, count // 4), count // 2), _MOST_SCORED)


def _named(old: Old) -> dict[str, Path]:
    if old is None:
        return {}
    if isinstance(old, Mapping):
        return {_plain(name): Path(path).absolute() for name, path in old.items()}
    if isinstance(old, str | Path):
        return {OLD: Path(old).absolute()}
    found: dict[str, Path] = {}
    for path in map(Path, old):
        name, number = _plain(path.stem), 2
        while name in found or name in (NEW, NEIGHBORS):
            name, number = f"{_plain(path.stem)}-{number}", number + 1
        found[name] = path.absolute()
    return found


def _plain(name: str) -> str:
    """Return a name as tasks and profiles may have it."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:40]
    return plain or OLD


def _refuse_tables(text: str, place: str) -> None:
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r"\s*\[\[?\s*([a-z_]+)", line)
        table = found[1] if found else table
        key = re.match(r"\s*([a-z_]+)\s*=", line)
        if table == "train" and key and key[1] != "strategy":
            raise ProfileError(
                f"{place}:{number}: [train] {key[1]} belongs to the program that trains",
                'remove it; of [train], only strategy = "anchor" is sf\'s: anchored from the start',
            )
        if found and found[1] in _OF_THE_HOST:
            raise ProfileError(
                f"{place}:{number}: [{found[1]}] belongs to the program that trains",
                "remove it; a profile for another program's training has rules, actions, guard, "
                "window, probe, anchor, neighbors, diagnose and recover",
            )
