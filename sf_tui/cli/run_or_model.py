"""What `sf diagnose` and `sf recover` are asked to look at: a run, or a model outside any run.

Knows how each is named and which options belong to which; loads neither.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from sf_tui.cli.output import write_line
from sf_tui.errors import RunNotFoundError, UsageError
from sf_tui.home import user_path

if TYPE_CHECKING:
    from sf_tui.profile import Profile
    from sf_tui.run.directory import RunDirectory

Reference = Annotated[
    str,
    typer.Argument(
        metavar="RUN_OR_MODEL",
        help="A run (id, prefix, `last`, directory), or a model: directory, hub id, .gguf file, "
        "starter:NAME.",
    ),
]
Task = Annotated[
    str | None,
    typer.Option("--task", help="The old task; default: the watched one that lost most."),
]
Stage = Annotated[
    str | None,
    typer.Option("--stage", help="Since whose start; default: the last new task's stage."),
]
Old = Annotated[
    str | None,
    typer.Option(
        "--old",
        metavar="DATA",
        help="Rows of the old task: a file, a `datasets` id or biography:NAME; some are the safe "
        "examples, the others are scored.",
    ),
]
New = Annotated[
    str | None, typer.Option("--new", metavar="DATA", help="Rows of the task learnt last.")
]
StartModel = Annotated[
    str | None,
    typer.Option(
        "--start-model",
        metavar="DIR",
        help="The weights from before: a model directory, a checkpoint's folder or starter:NAME.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="TABLE.KEY=VALUE",
        help="Override a key; of a run: of diagnosis, repair, neighbors or cost.",
    ),
]

SETTABLE = ("diagnose", "recover", "neighbors", "cost")
"""The tables that say how a run is looked at; all others say what it was."""


@dataclass(frozen=True)
class Target:
    """A run or a model."""

    run: RunDirectory | None = None
    model: str = ""


def find_target(reference: str) -> Target:
    """Return the run or the model that a word names; a run goes before a model.

    Raises:
        RunNotFoundError: it can be neither.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import find_run

    path = user_path(reference)
    is_model = ":" in reference or reference.lower().endswith(".gguf")
    if is_model or (path.exists() and not (path / "run.json").is_file()):
        return Target(model=reference)
    try:
        return Target(run=find_run(reference))
    except RunNotFoundError as error:
        if reference.count("/") == 1 and not reference.startswith((".", "/", "~")):
            return Target(model=reference)
        raise RunNotFoundError(
            error.message, f"{error.hint}; a model is a directory, a .gguf file or a hub id"
        ) from error


def run_name(run: RunDirectory) -> str:
    """Return what names a run on the command line: its id, or its directory if it lies apart."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import runs_home

    return run.id if run.path.parent == runs_home().absolute() else str(run.path)


def run_profile(run: RunDirectory, overrides: Sequence[str]) -> Profile:
    """Load a run's profile with other settings of how it is looked at.

    Raises:
        UsageError: an override would change what the run was.
    """
    # Deferred: pydantic and the profile package take a tenth of a second.
    from sf_tui.profile import load_profile
    from sf_tui.profile.override import parse_override

    for text in overrides:
        table = parse_override(text)[0][0]
        if table not in SETTABLE:
            raise UsageError(
                f"--set {text}: [{table}] says what the run was, and that stays",
                f"it may set {', '.join(SETTABLE)}",
            )
    return load_profile(run.profile, overrides)


def check_rate(rate: float | None) -> None:
    """Refuse a learning rate that is none.

    Raises:
        UsageError: it is not above 0, or not finite.
    """
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise UsageError(f"--learning-rate {rate}: no learning rate", "it is a number above 0")


def refuse_options(options: dict[str, object], why: str, hint: str) -> None:
    """Refuse the options that were given.

    Args:
        options: value by name; None and False were not given.
        why: why they can't be.
        hint: what to do instead.

    Raises:
        UsageError: one was given.
    """
    given = [name for name, value in options.items() if value is not None and value is not False]
    if given:
        raise UsageError(f"{', '.join(given)}: {why}", hint)


def refuse_names_in_a_run(task: str | None, stage: str | None) -> None:
    """Refuse what only a run has, for a model outside any.

    Raises:
        UsageError: one was given.
    """
    refuse_options(
        {"--task": task, "--stage": stage},
        "a model has no run to name them in",
        "name data with --old and --new, and the weights from before with --start-model",
    )


def is_live(run: RunDirectory) -> bool:
    """Tell whether a worker has the run in hand."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.liveness import probe_liveness

    return probe_liveness(run).has_worker


def narrator() -> Callable[[str], None]:
    """Return what tells people what goes on: a line on stderr with the seconds since now."""
    begun = time.monotonic()

    def tell(text: str) -> None:
        write_line(f"{time.monotonic() - begun:6.1f} s  {text}", err=True)

    return tell
