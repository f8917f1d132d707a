"""`sf recover`: a repaired model beside the degraded one, the new task kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.interrupt import check_interrupt
from sf_tui.cli.output import write_json
from sf_tui.cli.run_or_model import (
    New,
    Old,
    Reference,
    Set,
    Stage,
    StartModel,
    Target,
    Task,
    check_rate,
    find_target,
    is_live,
    narrator,
    refuse_names_in_a_run,
    refuse_options,
    run_name,
    run_profile,
)
from sf_tui.errors import UsageError
from sf_tui.home import user_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sf_tui.recovery.outcome import RepairOutcome
    from sf_tui.run.directory import RunDirectory
    from sf_tui.worker.cases import AssembledCase, Replaced

NEIGHBORS = "neighbors"
EDITS = ("shift-edit", "spectral-edit", "interpolate")


def recover(
    target: Reference,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=user_path,
            metavar="DIR",
            help="The repaired model; must not exist yet.",
        ),
    ],
    by: Annotated[
        str,
        typer.Option("--by", help="neighbors, or an edit: shift-edit, spectral-edit, interpolate."),
    ] = NEIGHBORS,
    examples: Annotated[
        int | None,
        typer.Option(
            "--examples",
            min=0,
            help="Set the old examples; default: \\[recover]'s, else 0 (10 without start).",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Limit the steps; default: \\[recover]'s.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option("--strength", help="Weight of the KL to the start model.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            help="Set the rate; default: \\[recover]'s, else half of the stage's.",
        ),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            "--keep",
            help="Share kept of the change since the start; default: searched (interpolate: 0.7).",
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option("--alpha", help="shift-edit: how much of the top direction is removed."),
    ] = None,
    task: Task = None,
    stage: Stage = None,
    old: Old = None,
    new: New = None,
    start_model: StartModel = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    set_: Set = None,
) -> None:
    """Repair a model for good: the old task back, the new one kept, with few old rows or none."""
    check_rate(learning_rate)
    edit = _edit_arguments(by, keep, alpha)
    if edit is not None:
        refuse_options(
            {
                "--examples": examples,
                "--steps": steps,
                "--strength": strength,
                "--learning-rate": learning_rate,
            },
            f"{by} takes no step and no example",
            "leave them away, or repair by neighbors",
        )
    elif strength is not None and not 0 < strength < float("inf"):
        raise UsageError(f"--strength {strength}: no strength", "it is a number above 0")
    found = find_target(target)
    _refuse_live(found)
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.worker.cases import Replaced
    from sf_tui.worker.offline import check_out

    out = check_out(out, _model_folder(found), found.run)
    replaced = Replaced(task, stage, old, new, start_model)
    settings: dict[str, Any] = {
        "examples": examples,
        "steps": steps,
        "strength": strength,
        "learning_rate": learning_rate,
        "keep": keep,
    }

    def work(assembled: AssembledCase) -> RepairOutcome:
        if edit is None:
            return _repair(assembled, settings, out)
        return _edit(assembled, by, edit, out)

    if found.run is not None:
        outcome = _of_run(found.run, set_ or [], replaced, examples, work)
    else:
        outcome = _of_model(found.model, set_ or [], replaced, examples, work)
    _print(outcome, found, out, json=json)


def _edit_arguments(
    by: str, keep: float | None, alpha: float | None
) -> dict[str, float | None] | None:
    """Return the arguments of an edit; None for a repair by tuning.

    Raises:
        UsageError: there is no such way, or an argument belongs to another one.
    """
    if by not in (NEIGHBORS, *EDITS):
        raise UsageError(f"--by {by}: no such way", f"there are {NEIGHBORS}, {', '.join(EDITS)}")
    if alpha is not None and by != "shift-edit":
        raise UsageError("--alpha belongs to shift-edit", f"leave it away with --by {by}")
    if keep is not None and by in ("shift-edit", "spectral-edit"):
        raise UsageError(
            f"--keep: {by} does not scale the change", "it belongs to neighbors and interpolate"
        )
    for name, value in (("--keep", keep), ("--alpha", alpha)):
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"{name} {value}: no share", "it is a number from 0 to 1")
    if by == NEIGHBORS:
        return None
    return {"shift-edit": {"alpha": alpha}, "interpolate": {"keep": keep}}.get(by, {})


def _refuse_live(target: Target) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.errors import RunError

    run = target.run
    if run is not None and is_live(run):
        raise RunError(
            f"{run.id}: its worker lives and has the weights in hand",
            f"`sf act {run_name(run)} recover` repairs them where they are; or "
            f"`sf stop {run_name(run)}` first",
        )


def _of_run(
    run: RunDirectory,
    overrides: Sequence[str],
    replaced: Replaced,
    examples: int | None,
    work: Callable[[AssembledCase], RepairOutcome],
) -> RepairOutcome:
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.worker.case_data import Wanted
    from sf_tui.worker.cases import run_case
    from sf_tui.worker.offline import locked

    profile = run_profile(run, overrides)
    wanted = Wanted(profile.recover.examples if examples is None else examples, scores_needed=False)
    with locked(run):
        narrator()(f"loading {run_name(run)}")
        return work(run_case(run, profile, wanted, replaced))


def _of_model(
    model: str,
    overrides: Sequence[str],
    replaced: Replaced,
    examples: int | None,
    work: Callable[[AssembledCase], RepairOutcome],
) -> RepairOutcome:
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.worker.case_data import Wanted
    from sf_tui.worker.model_case import model_case, model_profile
    from sf_tui.worker.offline import EXAMPLES_WITHOUT_START

    refuse_names_in_a_run(replaced.task, replaced.stage)
    profile = model_profile(model, replaced, overrides)
    by_default = profile.recover.examples or (0 if replaced.start_model else EXAMPLES_WITHOUT_START)
    wanted = Wanted(by_default if examples is None else examples, scores_needed=False)
    narrator()(f"loading {model}")
    return work(model_case(profile, wanted, start_model=replaced.start_model, start_accuracy=None))


def _repair(assembled: AssembledCase, settings: dict[str, Any], out: Path) -> RepairOutcome:
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.worker.offline import repair, repair_examples, write_model

    tell = _begin(assembled)
    examples = repair_examples(assembled, settings["examples"])
    outcome = repair(
        assembled,
        **{**settings, "examples": examples},
        told=tell,
        on_step=lambda _: check_interrupt(),
    )
    if outcome.examples < examples:
        tell(f"note: only {outcome.examples} old examples are at hand")
    tell(f"writing {out}")
    write_model(assembled.case.loaded, out)
    return outcome


def _edit(
    assembled: AssembledCase, by: str, arguments: dict[str, float | None], out: Path
) -> RepairOutcome:
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.worker.offline import edit, write_model

    tell = _begin(assembled)
    tell(f"{by}: no step, no data")
    outcome = edit(assembled, by, arguments)
    tell(f"writing {out}")
    write_model(assembled.case.loaded, out)
    return outcome


def _begin(assembled: AssembledCase) -> Callable[[str], None]:
    tell = narrator()
    assembled.case.between = check_interrupt
    for note in assembled.notes:
        tell(f"note: {note}")
    return tell


def _model_folder(target: Target) -> Path | None:
    folder = user_path(target.model)
    return folder if target.model and folder.is_dir() else None


def _print(outcome: RepairOutcome, target: Target, out: Path, *, json: bool) -> None:
    name = run_name(target.run) if target.run is not None else target.model
    if json:
        more = {"run" if target.run is not None else "model": name, "out": str(out)}
        write_json(outcome.as_json() | more)
        return
    # Deferred: rich takes a tenth of a second.
    from sf_tui.cli.repair_card import print_repair

    print_repair(outcome, name, out)
