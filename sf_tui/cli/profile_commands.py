"""`sf profile list|show|check|init|schema`: list, check and write profiles.

Imports only typer and the standard library; the commands' bodies import `sf_tui.profile`, which
loads pydantic, tomli and tomlkit.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.complete import complete_profile
from sf_tui.cli.options import SetValues
from sf_tui.cli.output import write_json_text, write_line
from sf_tui.errors import DataError, ModelError, ProfileError, UsageError
from sf_tui.home import user_path

if TYPE_CHECKING:
    from sf_tui.cases.profile_review import Review
    from sf_tui.profile import Profile

app = typer.Typer(name="profile", help="Show, check and write profiles.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


@app.command("list")
def list_profiles(as_json: AsJson = False) -> None:
    """List the built-in profiles."""
    # Deferred: pydantic takes longer to import than the help page may take.
    from sf_tui.profile import builtin_profiles, load_profile
    from sf_tui.profile.sources import examples_directory

    profiles = {name: load_profile(name) for name in builtin_profiles()}
    if as_json:
        rows = [
            {
                "name": name,
                "description": profile.description,
                "model": profile.model.source,
                "tasks": [task.name for task in profile.tasks],
            }
            for name, profile in profiles.items()
        ]
        _print_json(rows)
        return
    if not profiles:
        write_line("this installation has no built-in profiles", err=True)
        return
    for name, profile in profiles.items():
        tasks = ", ".join(task.name for task in profile.tasks)
        write_line(f"{name}\n  {profile.description}")
        write_line(f"  model {profile.model.source} · tasks {tasks}")
    write_line(f"examples to copy: {examples_directory()}", err=True)


@app.command()
def show(
    profile: Annotated[
        str,
        typer.Argument(
            help="Show this built-in profile or TOML file.", autocompletion=complete_profile
        ),
    ],
    overrides: SetValues = None,
    seed: Annotated[int | None, typer.Option(help="Replace the profile's seed.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print a profile with every default filled in, as TOML that can be run."""
    # Deferred: pydantic and tomlkit take longer to import than the help page may take.
    from sf_tui.profile import dump_profile, load_profile

    loaded = load_profile(profile, overrides or (), seed)
    if as_json:
        _print_json(loaded.model_dump(mode="json"))
    else:
        write_line(dump_profile(loaded), end="")


@app.command()
def check(
    profile: Annotated[
        str,
        typer.Argument(
            help="Check this TOML file or built-in profile.", autocompletion=complete_profile
        ),
    ],
    overrides: SetValues = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Check keys and paths only; open no data and no model.")
    ] = False,
    measure: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="Load the model and score the old task; default: if it is small.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a profile, its model and its data, and show what it would do and cost.

    A report names each mistake's file, line and key, and the exit code is then 2.
    """
    # Deferred: pydantic takes longer to import than the help page may take.
    from sf_tui.cli.profile_review import profile_json, profile_lines
    from sf_tui.profile import load_profile, problems_in

    try:
        loaded = load_profile(profile, overrides or (), files=True)
    except ProfileError as error:
        if as_json:
            problems = [{"message": line, "hint": hint} for line, hint in problems_in(error)]
            _print_json({"ok": False, "errors": problems})
        raise
    review = None
    if not quick:
        review = _review(loaded, measure, as_json=as_json)
    refusal = review.refusal if review is not None else None
    if as_json:
        found = profile_json(loaded, review)
        if refusal is not None:
            found["ok"] = False
            found["errors"] = [{"message": refusal.message, "hint": refusal.hint}]
        _print_json(found)
    else:
        write_line(f"{profile}: {'ok' if refusal is None else 'does not fit'}")
        for line in profile_lines(loaded, review):
            write_line(line)
    if refusal is not None:
        raise refusal


def _review(loaded: Profile, measure: bool | None, *, as_json: bool) -> Review:
    # Deferred: imports torch, which takes seconds.
    from sf_tui.cases.profile_review import review_profile

    try:
        return review_profile(loaded, measure=measure)
    except (DataError, ModelError) as error:
        if as_json:
            _print_json({"ok": False, "errors": [{"message": error.message, "hint": error.hint}]})
        raise


@app.command()
def schema() -> None:
    """Print the JSON Schema of a profile, for editors."""
    # Deferred: pydantic takes longer to import than the help page may take.
    from sf_tui.profile.reference import profile_json_schema

    _print_json(profile_json_schema())


@app.command()
def init(
    model: Annotated[
        str | None, typer.Option(help="Use this model directory, Hugging Face id or .gguf file.")
    ] = None,
    old: Annotated[
        str | None, typer.Option(help="Use these data of the task that the model already does.")
    ] = None,
    new: Annotated[str | None, typer.Option(help="Use these data of the task to learn.")] = None,
    out: Annotated[
        Path, typer.Option(parser=user_path, metavar="FILE", help="Write this file.")
    ] = Path("sf.toml"),
    name: Annotated[
        str | None, typer.Option(help="Name the profile; default: the file's name.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Write every key.")] = False,
) -> None:
    """Write a profile with settings that suit your model and data.

    Without --model, --old and --new it describes the built-in experiment.
    """
    # os.path, not Path: an impossible file name must not raise here; opening it reports it.
    if os.path.lexists(out):
        raise UsageError(f"{out}: already exists", "name another file with --out")
    if not os.path.isdir(out.parent):  # noqa: PTH112
        raise UsageError(f"{out}: there is no directory {out.parent}", "create it first")
    options = {"--model": model, "--old": old, "--new": new}
    missing = [option for option, value in options.items() if not value]
    chosen_name = _profile_name(name, out)
    if model and old and new:
        sources: dict[str, Any] = {
            "model": _written("--model", model, out),
            "old": _written("--old", old, out),
            "new": _written("--new", new, out),
        }
    elif len(missing) == len(options):
        # Deferred: pydantic takes longer to import than the help page may take.
        from sf_tui.profile import STARTER_SCENE

        sources = STARTER_SCENE
    else:
        raise UsageError(
            f"{' and '.join(missing)} is missing"
            if len(missing) == 1
            else f"{' and '.join(missing)} are missing",
            "give --model, --old and --new, or none of them for the built-in experiment",
        )
    # Deferred: imports torch, which takes seconds.
    from sf_tui.cases.new_profile import suggested_profile

    text, notes = suggested_profile(name=chosen_name, out=out, full=full, **sources)
    _write_profile(out, text)
    for note in notes:
        write_line(f"note: {note}", err=True)
    write_line(f"wrote {out}; next: `sf profile check {out}`, then `sf run {out}`", err=True)


def _write_profile(out: Path, text: str) -> None:
    # Deferred: pydantic takes longer to import than the help page may take.
    from sf_tui.profile import parse_profile
    from sf_tui.run.durable import create_file

    parse_profile(text, name=str(out), base_dir=out.absolute().parent, files=True)
    try:
        create_file(out, text.encode())
    except OSError as error:
        raise UsageError(
            f"{out}: can't be written: {(error.strerror or str(error)).lower()}",
            "name another file with --out",
        ) from error


def _profile_name(name: str | None, out: Path) -> str:
    from sf_tui.profile.names import PROFILE_NAME_PATTERN

    if name is None:
        return re.sub(r"[^A-Za-z0-9._-]+", "-", out.stem).strip("-._")[:64] or "profile"
    if not re.fullmatch(PROFILE_NAME_PATTERN, name):
        raise UsageError(
            f"--name {name}: can't be a profile's name", "use letters, digits, '.', '-' and '_'"
        )
    return name


def _written(option: str, value: str, out: Path) -> str:
    """Return a model or data option's value as the profile `out` has to contain it."""
    from sf_tui.profile.sources import (
        DATA_SUFFIXES,
        MODEL_SUFFIXES,
        absolute,
        is_missing,
        looks_like_path,
    )

    suffixes = MODEL_SUFFIXES if option == "--model" else DATA_SUFFIXES
    if value.startswith(("starter:", "biography:")) or not looks_like_path(
        value, Path.cwd(), suffixes
    ):
        return value
    path = Path(absolute(value, Path.cwd()))
    if is_missing(str(path)):
        raise UsageError(f"{option} {value}: there is no such file", "correct the path")
    folder = Path(absolute(str(out.parent), Path.cwd()))
    # Relative inside the profile's folder, so that the whole folder can be moved.
    return f"./{path.relative_to(folder)}" if path.is_relative_to(folder) else str(path)


def _print_json(value: object) -> None:
    write_json_text(json.dumps(value, indent=2, ensure_ascii=False))
