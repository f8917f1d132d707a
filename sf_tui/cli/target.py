"""The target of `sf diagnose` and `sf recover`: a run, or a model outside any run.

Knows how each is named, which options belong to which, and how a target becomes a case.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sf_tui.cli.complete import complete_checkpoint, complete_run, complete_stage, complete_task
from sf_tui.cli.output import check_interrupt, write_line
from sf_tui.errors import RunNotFoundError, UsageError
from sf_tui.home import user_path

if TYPE_CHECKING:
    from sf_tui.cases.assemble import CaseOverrides, RunCase
    from sf_tui.cases.rows import CaseNeeds
    from sf_tui.profile import Profile
    from sf_tui.run.directory import RunDirectory

Reference = Annotated[
    str,
    typer.Argument(
        metavar="RUN_OR_MODEL",
        help="Examine a run, or a model: directory, hub id, .gguf or starter:NAME.",
        autocompletion=complete_run,
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        "--task",
        autocompletion=complete_task,
        help="Examine this old task; default: the watched one that lost most.",
    ),
]
Stage = Annotated[
    str | None,
    typer.Option(
        "--stage",
        autocompletion=complete_stage,
        help="Use this stage's start as the reference; default: the last new task's.",
    ),
]
Old = Annotated[
    str | None,
    typer.Option(
        "--old",
        metavar="DATA",
        help="Read the old task's rows: a file, `datasets` id or biography:NAME.",
    ),
]
New = Annotated[
    str | None,
    typer.Option(
        "--new",
        metavar="DATA",
        help="Read the rows of the task learned last: a file, an id or biography:NAME.",
    ),
]
StartModel = Annotated[
    str | None,
    typer.Option(
        "--start-model",
        metavar="DIR",
        help="Load the weights before the change: a model, a checkpoint or starter:NAME.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="TABLE.KEY=VALUE",
        help="Override a key (run: of diagnose, recover, neighbors, cost).",
    ),
]

Checkpoint = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        metavar="NAME",
        autocompletion=complete_checkpoint,
        help="Examine this checkpoint of an imported run; default: its last.",
    ),
]

SETTABLE = ("diagnose", "recover", "neighbors", "cost")
"""Tables that decide how a run is examined; all others record what the run was."""


@dataclass(frozen=True)
class Target:
    """A run or a model."""

    run: RunDirectory | None = None
    model: str = ""

    @property
    def name(self) -> str:
        """The target's name on the command line."""
        return self.model if self.run is None else run_name(self.run)

    @property
    def folder(self) -> Path | None:
        """The model's directory; None for a run, an id or a file."""
        folder = user_path(self.model)
        return folder if self.model and folder.is_dir() else None


def find_target(reference: str) -> Target:
    """Return the run or the model that a reference names; a run takes precedence.

    Raises:
        RunNotFoundError: it names neither.
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


def check_out(out: Path, target: Target) -> Path:
    """Return the absolute path of the model directory that a command is to create.

    Raises:
        UsageError: the path exists, is inside what is being repaired, or can't be written.
    """
    out = out.expanduser().absolute()
    given = [target.folder] if target.folder is not None else []
    given += [target.run.checkpoints, target.run.model] if target.run is not None else []
    for place in given:
        if out.resolve().is_relative_to(place.resolve()):
            raise UsageError(
                f"--out {out}: it is inside what is repaired, which is never written into",
                "choose a directory beside it",
            )
    if os.path.lexists(out):
        raise UsageError(
            f"--out {out}: something of that name already exists; it is never overwritten",
            "choose another --out",
        )
    above = next(parent for parent in out.parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out}: {above} can't be written", "choose another --out")
    return out


def target_profile(target: Target, settings: Sequence[str], overrides: CaseOverrides) -> Profile:
    """Return the profile of a run, or the default profile for a bare model.

    Args:
        target: the run or the model.
        settings: `table.key=value` texts.
        overrides: the data of a model's tasks.

    Raises:
        UsageError: an option belongs to the other kind of target, or a setting would change what
            the run was.
    """
    if target.run is not None:
        return run_profile(target.run, settings)
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.cases.assemble import model_profile

    refuse_options(
        {
            "--task": overrides.task,
            "--stage": overrides.stage,
            "--checkpoint": overrides.checkpoint,
        },
        "a model has no run to name them in",
        "name data with --old and --new, and the weights from before with --start-model",
    )
    return model_profile(target.model, overrides, settings)


def target_case(
    target: Target,
    profile: Profile,
    needs: CaseNeeds,
    overrides: CaseOverrides,
    log: Callable[[str], None],
) -> RunCase:
    """Load a target's weights and rows as a case; the caller holds a run's lock.

    Args:
        target: the run or the model.
        profile: from `target_profile`.
        needs: what the operation needs from the case.
        overrides: data and weights that replace the run's own.
        log: receives the case's notes.

    Raises:
        SfError: weights or data can't be used.
    """
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.cases.assemble import model_case, run_case
    from sf_tui.worker.checkpoints import read_record

    log(f"loading {target.name}")
    if target.run is not None:
        found = run_case(read_record(target.run, profile, overrides.checkpoint), needs, overrides)
    else:
        found = model_case(profile, needs, overrides)
    for note in found.notes:
        log(f"note: {note}")
    found.case.check_stop = check_interrupt
    return found


@contextmanager
def target_locked(target: Target) -> Iterator[None]:
    """Hold a run's lock, so that no worker starts on it; a model needs no lock.

    Raises:
        RunError: a worker holds it, or a link leads out of its directory.
    """
    if target.run is None:
        yield
        return
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.liveness import RunLock
    from sf_tui.run.reading import check_links

    check_links(target.run)
    with RunLock(target.run):
        yield


def run_name(run: RunDirectory) -> str:
    """Return a run's name on the command line: its id, or its path outside the runs' folder."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import runs_home

    return run.id if run.path.parent == runs_home().absolute() else str(run.path)


def run_profile(run: RunDirectory, overrides: Sequence[str]) -> Profile:
    """Load a run's profile, with overrides for how it is examined.

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
                f"--set {text}: [{table}] records what the run was, and can't be changed",
                f"it may set {', '.join(SETTABLE)}",
            )
    return load_profile(run.profile, overrides)


def check_rate(rate: float | None) -> None:
    """Refuse an invalid learning rate.

    Raises:
        UsageError: it is not positive or not finite.
    """
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise UsageError(f"--learning-rate {rate}: not a learning rate", "give a number above 0")


def refuse_options(options: dict[str, object], why: str, hint: str) -> None:
    """Refuse options that don't apply.

    Args:
        options: values by name; None and False mean not given.
        why: the reason.
        hint: what to do instead.

    Raises:
        UsageError: an option was given.
    """
    given = [name for name, value in options.items() if value is not None and value is not False]
    if given:
        raise UsageError(f"{', '.join(given)}: {why}", hint)


def is_live(run: RunDirectory) -> bool:
    """Return whether the run's worker is alive."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.liveness import probe_liveness

    return probe_liveness(run).has_worker


def narrator() -> Callable[[str], None]:
    """Return a function that writes a line to stderr with the seconds since this call."""
    begun = time.monotonic()

    def log(text: str) -> None:
        write_line(f"{time.monotonic() - begun:6.1f} s  {text}", err=True)

    return log
