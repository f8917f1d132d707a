"""What a shell offers for an argument or option: runs, actions, profiles, tasks, stages, pages.

Called at every press of tab, so it reads little and imports nothing heavy; a run's actions and
tasks come from its resolved profile as plain TOML. Never fails: what can't be read is not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

Choices = list[tuple[str, str]]
"""Texts and their help; shells that show no help drop it."""

MOST_RUNS = 50


def complete_run(incomplete: str) -> Choices:
    """Return `last` and the ids and names of runs, newest first, ids before names."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.errors import SfError
    from sf_tui.run.directory import list_runs
    from sf_tui.run.labels import read_labels

    try:
        runs = list_runs()
    except SfError:
        return []
    found = [(run.id, "") for run in runs if _fits(run.id, incomplete)][:MOST_RUNS]
    named = [(read_labels(run.path)[0].name, run.id) for run in runs]
    found += [(name, id_) for name, id_ in named if name and _fits(name, incomplete)][:MOST_RUNS]
    if runs and "last".startswith(incomplete):
        found.insert(0, ("last", runs[0].id))
    return found


def complete_profile(incomplete: str) -> Choices:
    """Return the built-in profiles and the TOML files and folders at this path."""
    # Deferred: pydantic takes a tenth of a second.
    from sf_tui.profile import builtin_profiles

    names = [(name, "built in") for name in builtin_profiles() if _fits(name, incomplete)]
    return [*names, *_toml_files(incomplete)]


def complete_profile_or_run(incomplete: str) -> Choices:
    """Return profiles, then runs."""
    return [*complete_profile(incomplete), *complete_run(incomplete)]


def complete_action(ctx: typer.Context, incomplete: str) -> Choices:
    """Return the actions of the run on the command line; without one, the built-in actions."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.vocabulary.ops import OPS, op_named

    actions = _profile_of_run(ctx).get("actions", {})
    if not isinstance(actions, dict) or not actions:
        return [(op.name, op.help) for op in OPS.values() if op.name.startswith(incomplete)]
    return [
        (name, op_named(str(table.get("op"))).help)
        for name, table in actions.items()
        if isinstance(table, dict) and _fits(name, incomplete)
    ]


def complete_task(ctx: typer.Context, incomplete: str) -> Choices:
    """Return the tasks of the run or profile on the command line."""
    return [(name, "") for name in _task_names(ctx) if _fits(name, incomplete)]


def complete_stage(ctx: typer.Context, incomplete: str) -> Choices:
    """Return the stages of the run on the command line, which are named after their tasks."""
    names = _task_names(ctx)
    replay = _profile_of_run(ctx).get("replay_stage")
    if isinstance(replay, dict) and replay.get("steps"):
        names = [*names, "replay"]
    return [(name, "") for name in names if _fits(name, incomplete)]


def complete_checkpoint(ctx: typer.Context, incomplete: str) -> Choices:
    """Return the checkpoints of the imported run on the command line."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.errors import SfError
    from sf_tui.run.directory import find_run
    from sf_tui.run.references import read_references

    try:
        references = read_references(find_run(str(ctx.params.get("target"))))
    except SfError:
        return []
    found = [(one.weights.folder.name, f"step {one.step}") for one in references if one.step]
    return [choice for choice in found if _fits(choice[0], incomplete)]


def one_of(*names: str) -> Callable[[str], Choices]:
    """Return a completion that offers fixed names."""

    def complete(incomplete: str) -> Choices:
        return [(name, "") for name in names if name.startswith(incomplete)]

    return complete


def _fits(name: str, incomplete: str) -> bool:
    # A name with control characters or blanks can't be completed as one word.
    return name.startswith(incomplete) and name.isprintable() and " " not in name


def _toml_files(incomplete: str) -> Iterable[tuple[str, str]]:
    folder, _, start = incomplete.rpartition("/")
    shown = f"{folder}/" if "/" in incomplete else ""
    entries: list[Path] = []
    with suppress(OSError, ValueError, RuntimeError):
        entries = sorted(Path(shown or ".").expanduser().iterdir())
    for entry in entries:
        name = f"{shown}{entry.name}"
        hidden = entry.name.startswith(".") and not start.startswith(".")
        if hidden or not _fits(name, incomplete):
            continue
        with suppress(OSError):
            if entry.suffix == ".toml" and entry.is_file():
                yield name, ""
            elif entry.is_dir() and not (entry / "run.json").exists():
                yield f"{name}/", ""


def _task_names(ctx: typer.Context) -> list[str]:
    tasks = _profile_of_run(ctx).get("tasks")
    if not isinstance(tasks, list):
        return []
    return [str(task["name"]) for task in tasks if isinstance(task, dict) and "name" in task]


def _profile_of_run(ctx: typer.Context) -> dict[str, Any]:
    """Return the profile of the run or TOML file that the command line names; empty if none."""
    # Deferred: not needed for `sf --help`.
    import tomllib

    from sf_tui.errors import SfError
    from sf_tui.run.directory import find_run
    from sf_tui.run.durable import read_regular

    named = [ctx.params.get(name) for name in ("run", "reference", "target")]
    # The parser gives up at an option without its value, and leaves the words before it in args.
    reference = next((one for one in [*named, *ctx.args] if one), None)
    if not isinstance(reference, str):
        return {}
    with suppress(SfError, OSError, ValueError):
        path = Path(reference)
        if path.suffix != ".toml":
            path = find_run(reference).profile
        return tomllib.loads(read_regular(path).decode())
    return {}
